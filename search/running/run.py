"""One process's part in a study: what it trains, and the checkpoints that it keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from models.checks import shown
from search.spec.config import StudySpec, TrialConfig
from search.store import CheckpointUnwritableError, StorageError
from search.store.claims import LEASE_SECONDS
from search.store.data import keep_data
from search.store.database import Database
from search.store.folders import CHECKPOINTS, check_folder, study_folder
from search.store.leases import Lease
from search.store.records import epochs_of_trial
from search.store.studies import StudyHandle
from search.training.epoch import derived_seed
from search.training.files import latest_checkpoint, save_checkpoint
from search.training.task import Task
from search.training.train import train


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One process's part in a study; made by `begin_run`.

    Attributes:
        folder: the study's own, where its checkpoints are kept.
        stop: set it to leave at the next training step; the running trials are laid aside.
        check: raises StudyGoneError where the folder was taken away; asked before each checkpoint.
        on_change: called after each trial that ended.
        lease_seconds: how long a trial stays ours after we were last heard of.
        trials_at_a_time: trained in turn; None: on a GPU as many as increase throughput, on a CPU
            one.
        train: trains one configuration; tests put made-up curves in its place.
    """

    study: StudyHandle
    spec: StudySpec
    task: Task
    folder: Path
    stop: threading.Event
    check: Callable[[], None] = lambda: None
    on_change: Callable[[], None] = lambda: None
    lease_seconds: float = LEASE_SECONDS
    trials_at_a_time: int | None = None
    train: Callable[..., Any] = train

    @property
    def db(self) -> Database:
        return self.study.db


def begin_run(
    study: StudyHandle, spec: StudySpec, task: Task, *, runs: Path, **options: Any
) -> Run:
    """Take part in a study: store what is known of its data, claim its folder.

    Args:
        runs: where the study has its folder.
        options: further attributes of the Run.

    Raises:
        DataError: the study was made with other data.
        StorageError: the folder cannot be used, or the database was unavailable.
    """
    keep_data(study, task)
    folder = study_folder(study, runs)
    check = partial(check_folder, study, folder)
    return Run(study=study, spec=spec, task=task, folder=folder, check=check, **options)


def trial_seed(study_seed: int, trial_number: int) -> int:
    """A trial's seed: a function of the study's seed and the trial's number alone."""
    return derived_seed(study_seed, "trial", trial_number)


def checkpoint_path(folder: Path, trial_number: int) -> Path:
    """Where a trial's checkpoint lies. SQLite keeps any text as a number, `../../x` too.

    Raises:
        StorageError: the database gives it a number that is none.
    """
    if not isinstance(trial_number, int) or trial_number < 0:
        raise StorageError(f"a trial of the database has the number {shown(trial_number)}")
    return folder / CHECKPOINTS / f"trial-{trial_number}.pt"


class TrialCheckpoint:
    """The state of one trial's training on disk, to resume from."""

    def __init__(
        self, run: Run, lease: Lease, started: datetime | None, config: TrialConfig
    ) -> None:
        content = run.task.content
        self._run, self._lease = run, lease
        self._path = checkpoint_path(run.folder, lease.trial_number)
        # What the file must agree with, as it may stem from a study since deleted. The order of the
        # images is part of it: on it depends which of them are for validation.
        self._identity = {
            "trial": lease.trial_id,
            "started": str(started),
            "config": config.to_dict(),
            "content": None if content is None else content.to_dict(),
        }

    def load(self) -> dict[str, Any] | None:
        """See `train`; None to begin anew."""
        saved = latest_checkpoint(self._path, self._identity)
        if saved is None:
            return None
        state: dict[str, Any] = saved["training"]
        reported = epochs_of_trial(self._run.db, self._lease.trial_id)
        if state["epoch"] > max((row.epoch for row in reported), default=0):
            return None  # a power cut undid reports (see `transaction`): they are to be made again
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace what was there.

        Raises:
            StudyGoneError: the study's folder was taken away.
            CheckpointUnwritableError: no room, or no right to write.
        """
        self._run.check()
        try:
            save_checkpoint(self._path, {"identity": self._identity, "training": state})
        except OSError as error:
            self._run.check()  # the folder may have been taken away at this very moment
            raise CheckpointUnwritableError(
                f"cannot write {self._path} ({error.strerror}); nothing is lost: make room, "
                "then run the same command again"
            ) from error
