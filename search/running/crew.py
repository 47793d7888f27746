"""Who trains a study's trials, and the time until they are done: this process, or a team of it."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from sqlalchemy.exc import SQLAlchemyError

from search.analysis.wording import printable
from search.running.loop import work
from search.running.planning import Plan, begin
from search.running.team import WATCH_SECONDS, Team, default_workers, threads_for
from search.running.worker import Worker
from search.store.errors import StudyBrokenError
from search.store.folders import artifact_folder
from search.store.history import count_reports
from search.store.identity import check_study, told_if_gone
from search.store.leftovers import sweep
from search.store.reading import view_study
from search.store.storage import Database
from search.store.view import MOST, StudyView
from search.terminal.commands import console
from search.terminal.progress import Progress

if TYPE_CHECKING:
    from search.dashboard.content_writer import ContentWriter


CHECK_SECONDS = 1.0  # between looks whether the study is still there


@dataclass(frozen=True, kw_only=True, slots=True)
class Crew:
    """Who is wanted.

    Attributes:
        device: auto, cpu, cuda or cuda:N, as a person gave it.
        data_dir: where data sets are kept.
        runs_dir: where a person wants `runs/`, see `runs_folder`.
        workers: processes that train at a time; None: as many as pay.
        trials_per_device: that each trains at a time; None: as many as pay.
        repeatable: several workers would race for the sampler's draws: by default, one alone.
    """

    device: str
    data_dir: Path
    runs_dir: Path | None = None
    workers: int | None = None
    trials_per_device: int | None = None
    repeatable: bool = False

    def devices(self, chosen: torch.device) -> list[str]:
        """The device of each process that is to train."""
        every_gpu = self.device in ("auto", "cuda") and chosen.type == "cuda"
        gpus = torch.cuda.device_count() if every_gpu else 1
        default = 1 if self.repeatable else default_workers(chosen.type, gpus=gpus)
        count = self.workers or default
        if every_gpu:
            return [f"cuda:{number % gpus}" for number in range(count)]
        return [str(chosen)] * count

    @property
    def trials_at_a_time(self) -> int | None:
        """See `Worker`."""
        return self.trials_per_device or (1 if self.repeatable else None)

    def team(
        self, chosen: torch.device, url: str, fork: Callable[[list[str]], object] | None = None
    ) -> Team:
        """The local processes to start: none where this process does the work itself.

        Args:
            url: of the database.
            fork: see `Team`; for a process that has done nothing yet but load libraries.
        """
        devices = self.devices(chosen)
        several = len(devices) > 1
        return Team(
            url=url,
            devices=devices if several else [],
            data_dir=self.data_dir,
            runs_dir=self.runs_dir,
            threads=threads_for(len(devices)) if chosen.type == "cpu" else 1,
            trials_per_device=self.trials_at_a_time,
            # A CUDA context does not survive it, and macOS's own libraries do not either.
            fork=fork if several and chosen.type == "cpu" and sys.platform == "linux" else None,
        )


def carry_out(
    plan: Plan,
    crew: Crew,
    team: Team,
    *,
    stop: threading.Event,
    timeout: float | None,
    progress: bool,
    on_database: Callable[[Database], None] = lambda _: None,
    most: int | None = MOST,
) -> StudyView:
    """Make the study or take it up again, and train until its total, the time limit or `stop`.

    An exception, KeyboardInterrupt too, lays the running trials aside and sends the team home.

    Args:
        team: the crew's, entered before the plan was made, as both take their time.
        timeout: seconds; None: no limit.
        progress: show it on standard error.
        on_database: told of the database that is written to.
        most: see `view_study`.

    Raises:
        StudyBrokenError, StorageError, CheckpointUnwritableError: see `work`.
        StudyGoneError: the study was deleted, or the database's file taken away.
    """
    worker = begin(plan, stop, trials_at_a_time=crew.trials_at_a_time)
    on_database(worker.db)
    if progress:
        for note in plan.task.info.notes:
            print(printable(note), file=sys.stderr)
    if team.devices and progress:
        each = "a thread" if team.threads == 1 else f"{team.threads} threads"
        print(f"{len(team.devices)} workers with {each} each", file=sys.stderr)
    try:
        with told_if_gone(worker.db, worker.study):
            _search(worker, team, timeout, progress=progress)
            sweep(worker.db, worker.study, worker.folder)
            return view_study(worker.db, worker.study, most=most)
    finally:
        worker.db.close()


def _search(worker: Worker, team: Team, timeout: float | None, *, progress: bool) -> None:
    if team.devices:
        team.begin(
            worker.study.study_name, partial(count_reports, worker.db, worker.study._study_id)
        )
    # Its libraries take half a second to load, in which the team is at work already.
    from search.dashboard.content_writer import ContentWriter

    content = ContentWriter(worker.db, worker.study, artifact_folder(worker.folder.parent))
    timer = threading.Timer(timeout or 0, worker.stop.set)
    timer.daemon = True
    if timeout is not None:
        timer.start()
    told = told_if_gone(worker.db, worker.study)
    read = told(partial(view_study, worker.db, worker.study))
    shown = Progress(read, console=console()) if progress else nullcontext()
    try:
        with shown:
            if team.devices:
                _oversee(team, worker, content)
            else:
                work(dataclasses.replace(worker, on_change=content.write_if_due))
    except BaseException:
        worker.stop.set()  # so that nothing else is waited for
        raise
    finally:
        timer.cancel()
        content.write(worker.stop)


def _oversee(team: Team, worker: Worker, content: ContentWriter) -> None:
    """Keep the team at work until the study has its total, or until it is to stop."""
    stop = worker.stop
    checked = time.monotonic()
    try:
        while not stop.is_set() and team.watch():
            stop.wait(WATCH_SECONDS)
            content.write_if_due()
            if time.monotonic() - checked >= CHECK_SECONDS:
                worker.check()
                with suppress(SQLAlchemyError):  # the workers wait for a database that is away
                    check_study(worker.db, worker.study)
                checked = time.monotonic()
    except StudyBrokenError:
        worker.check()  # one that finds its ground gone leaves it to this process to say so
        raise
    finally:
        team.send_home()
