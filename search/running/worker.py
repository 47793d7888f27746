"""A worker: it joins a study, claims trials, advances them in turn, and ends them.

Optuna decides (sampler, pruner, storage), but this loop drives: only then can a trial be resumed by
another process, be counted exactly, and outlive its worker. See `search.store.claims`.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from search.dashboard.content import ContentWriter, TrialPictures
from search.running.run import Run, begin_run
from search.running.trial import (
    Ending,
    FailuresInARow,
    checkpoint_path,
    describe,
    end_trial,
    is_out_of_memory,
    train_trial,
)
from search.sampling.chooser import Contenders, make_chooser
from search.sampling.flat import make_flat
from search.sampling.limits import limits_of
from search.sampling.priors import prior_for
from search.sampling.sampler import StudySampler
from search.spec.domains import check_count
from search.spec.space import check_space
from search.store import FolderGoneError, StorageError, StudyGoneError
from search.store.claims import COUNTED, COUNTED_OF_ARMS, claim, waits
from search.store.data import find_place, hold_out
from search.store.database import optuna_warnings_only, outages_told
from search.store.extensions import check_files
from search.store.folders import ARTIFACTS, sweep
from search.store.leases import Heartbeat, Lease, LostLeaseError, drop, release
from search.store.opening import open_database
from search.store.studies import load_spec, require_study
from search.store.views import view_study
from search.terminal.commands import BAD_INPUT, START_AGAIN, console, log
from search.terminal.progress import show_progress
from search.terminal.stopping import StopOnSignal, stop_after
from search.training.device import (
    check_device,
    choose_device,
    describe_hardware,
    prepare_process,
    return_memory,
)
from search.training.epoch import DeviceLostError, StoppedError
from search.training.files import CheckpointError, delete_checkpoint
from search.training.task import Task, load_study_task
from search.training.weights import check_training

# Several small networks use a GPU better, but the more start at once, the less informed each is.
TRIALS_PER_GPU = 4
COMPARED_PER_GPU = 16  # trials of a comparison, which need no results of each other


@optuna_warnings_only()
def join_study(
    *,
    storage: str,
    study: str | None,
    data_dir: Path,
    dataset: str | None = None,
    device: str = "auto",
    threads: int | None = None,
    trials_per_device: int | None = None,
    runs_dir: Path | None = None,
    checkpoints: str | None = None,
    max_seconds: float | None = None,
    quiet: bool = False,
    is_child: bool = False,
    task: Task | None = None,
) -> int:
    """Does what `python -m search.worker` does; the arguments are its options.

    Returns:
        The exit code: 0 when the study has its total.

    Args:
        is_child: a pool has started it, whose process writes the dashboard's note and clears up.
        task: the study's, used instead of loading it from `data_dir`.
    """
    chosen = choose_device(device)
    check_count("threads", threads)
    prepare_process(threads)
    with StopOnSignal() as stopping, stop_after(max_seconds, stopping):
        # A Ray pool restarts lost tasks by itself, so they need not be patient.
        is_sent = task is not None
        db = open_database(storage, must_exist=True, patient=not is_sent, runs_dir=runs_dir)
        with outages_told(db), (found := require_study(db, study, check_files)).told_if_gone():
            spec = load_spec(found)
            if task is None:
                place = find_place(found, dataset, data_dir)
                task = load_study_task(spec, data_dir, chosen, place=place)
            task = task.to(chosen)
            # The study's creator checked it; others who can write to the database may not have.
            check_space(spec, task.image_shape, task.classes)
            check_training(spec, task.image_shape, task.classes)
            run = begin_run(found, spec, task, stopping, checkpoints, trials_per_device)
            if not is_sent:
                hold_out(task, data_dir)
            if not quiet:
                log(f"{describe_hardware(chosen)} joins study {found.name}")
            with nullcontext() if quiet else _shown(run):
                train_trials(run)
            if not is_child:
                # Only now, because this process trains; and not after an error, such as an outage.
                ContentWriter(found).write()
                sweep(found, run.folder, run.checkpoints)
    again = stopping.is_set() and not stopping.signal
    return START_AGAIN if again else stopping.exit_code


def work_for_study(arguments: Mapping[str, Any]) -> int:
    """The body of a worker started by `search.running.pool`; see `join_study`.

    An OutageError ends it with START_AGAIN: the pool starts another once the database answers. To
    lose the GPU is a death: the pool starts another, but not for ever.
    """
    try:
        return join_study(**arguments, quiet=True, is_child=True)
    except DeviceLostError as error:
        log(str(error))
        return 1
    except StudyGoneError:
        return BAD_INPUT  # the process that started this one reports it for all


def train_shown(run: Run, train: Callable[[Run], None], *, progress: bool = True) -> None:
    """Call `train`, show its progress, and keep what the dashboard shows up to date."""
    content = ContentWriter(run.study)
    try:
        with _shown(run) if progress else nullcontext():
            train(replace(run, on_report=content.write_if_due, on_change=content.write_if_due))
        sweep(run.study, run.folder, run.checkpoints)
    except BaseException:
        run.stop.set()  # so that nothing waits any longer
        raise
    finally:
        content.write()


def _shown(run: Run) -> AbstractContextManager[object]:
    read = run.study.told_if_gone()(partial(view_study, run.study))
    return show_progress(read, console=console())


def train_trials(run: Run) -> None:
    """Train trials until the study has its total, or `stop` is set; then release what is left.

    Raises:
        StudyBrokenError: several trials in a row failed without one success.
        StorageError: the database was unavailable for longer than we wait.
        CheckpointError: a checkpoint could not be read, or a finished epoch not be saved.
        StudyGoneError: the study was deleted, or its database or folder removed.
        DeviceLostError: the GPU is lost. Its trials are abandoned, so none loses it for ever.
    """
    with Heartbeat(run.db) as heartbeat:
        slots = Slots(run, heartbeat)
        try:
            while not run.stop.is_set():
                slots.claim()
                if not slots.running:
                    return
                slots.advance()
        except StoppedError:
            pass
        finally:
            error = sys.exception()
            keeps = isinstance(error, StorageError | DeviceLostError)
            for lease, work in slots.running:
                work.close()
                if not keeps or isinstance(error, FolderGoneError):  # else it expires by itself
                    release(run.db, lease)


class Slots:
    """The trials that one process trains: `running`, in the order of their turns."""

    def __init__(self, run: Run, heartbeat: Heartbeat) -> None:
        on_gpu = COMPARED_PER_GPU if run.spec.is_comparison else TRIALS_PER_GPU
        usual = on_gpu if run.task.device.type == "cuda" else 1
        self._limit = run.trials_at_a_time or usual
        self._run, self._heartbeat = run, heartbeat
        self._pictures = TrialPictures(run.study, run.folder.parent / ARTIFACTS)
        self._resting_until, self._waits = 0.0, waits()
        self.running = deque[tuple[Lease, Generator[None, None, Ending | None]]]()
        self._failures = FailuresInARow()
        self._follow()

    def _follow(self) -> None:
        """Claim and sample trials by the specification as it is stored now."""
        run = self._run = replace(self._run, spec=load_spec(self._run.study))
        spec, task, contenders = run.spec, run.task, Contenders(run.study, run.spec)
        run.study.study.sampler = StudySampler(  # Optuna does not store it with the study
            spec,
            prior_for(spec.dataset),
            limits_of(spec, task.image_shape, task.classes),
            begun=lambda: contenders.begun(run.db.connection),
        )
        self._flat = make_flat(contenders)
        self._chooser = make_chooser(contenders, self._flat)

    def claim(self) -> None:
        """Fill the free places; if all are empty on return, there is no work left for good."""
        run, running = self._run, self.running
        while len(running) < self._limit and not run.stop.is_set():
            if time.monotonic() < self._resting_until:
                return
            spec = self._run.spec
            match claim(
                run.study,
                total=spec.trials,
                budget=spec.budget,
                counted=COUNTED_OF_ARMS if spec.is_comparison else COUNTED,
                choose=self._chooser,
                flat=self._flat,
            ):
                case Lease() as lease:
                    self._waits = waits()
                    work = self._work(lease)
                    next(work)  # it keeps the lease
                    running.append((lease, work))
                case "changed":  # another start has changed the totals
                    self._follow()
                case "wait" if not running:
                    run.stop.wait(next(self._waits))
                case "done" if not running:
                    return
                case _:  # none will be available for a while, unless a trial ends here
                    self._resting_until = time.monotonic() + next(self._waits)

    def _work(self, lease: Lease) -> Generator[None, None, Ending | None]:
        """Keep a lease, and train and end its trial, a slice for each `next()` after the first.

        Returns None if the trial ran out of memory beside others. It is handed back, and is claimed
        again once there are fewer of them.
        """
        run, chooser = self._run, self._chooser
        with self._heartbeat.keep(lease):
            yield
            crowded = False
            try:
                ending = yield from train_trial(run, lease, self._pictures, chooser, self._reported)
            except (StoppedError, LostLeaseError, StorageError, CheckpointError):
                raise
            except Exception as error:
                # Whatever a configuration does to its training is its own fault, not the study's.
                crowded = is_out_of_memory(error) and len(self.running) > 1
                check_device(run.task.device)  # if it is lost, every other trial would fail, too
                ending = TrialState.FAIL, describe(error)
            # Outside of the except blocks, no error keeps tensors alive.
            if crowded:
                self._limit = len(self.running) // 2  # from now on
                release(run.db, lease)
                return None
            end_trial(run, lease, *ending)
            return ending

    def _reported(self, number: int, epoch: int) -> None:
        self._failures.reported(number, epoch)
        self._run.on_report()

    def advance(self) -> None:
        """Train one trial for a slice; free its place and clear up if that was its last one."""
        run, (lease, work) = self._run, self.running[0]
        number = lease.trial_number
        try:
            next(work)
            self.running.rotate(-1)
            return
        except StopIteration as ended:
            ending: Ending | None = ended.value
        except LostLeaseError:  # another worker took the trial over, with its checkpoint
            ending = None
        self.running.popleft()
        self._resting_until = 0.0
        return_memory(of_gpu=not self.running)
        if ending is None:
            return
        state, reason = ending
        gone: Sequence[int] = [number]
        if state == TrialState.RUNNING and self._chooser is not None:
            gone = drop(run.study, self._chooser.surplus())
        for one in gone:
            delete_checkpoint(checkpoint_path(run.checkpoints, one))
        self._failures.ended(run.spec, number, state, reason)
        run.on_change()
