"""One process that works on a study: what it has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna

from search.running.journal import Journal
from search.spec.config import StudySpec
from search.store.claims import LEASE_SECONDS
from search.store.storage import Database
from search.training.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """One process that works on a study.

    Attributes:
        folder: where the study's checkpoints are kept.
        stop: set it to leave at the next training step; the running trials are laid aside.
        check: raises StudyGoneError where the folder was taken away; asked before each checkpoint.
        on_change: called after each trial that ended.
        lease_seconds: how long a trial stays ours after we were last heard of.
        journal: told of every report that the database has acknowledged; for tests.
        trials_at_a_time: trained in turn; None: on a GPU as many as pay, on a CPU one.
    """

    db: Database
    study: optuna.Study
    spec: StudySpec
    task: Task
    folder: Path
    stop: threading.Event
    check: Callable[[], None] = lambda: None
    on_change: Callable[[], None] = lambda: None
    lease_seconds: float = LEASE_SECONDS
    journal: Journal | None = None
    trials_at_a_time: int | None = None
