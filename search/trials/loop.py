"""The trial loop: claim a trial, advance it epoch by epoch, report, prune, tell.

Optuna decides (sampler, pruner, storage), the loop drives: only so can a trial be carried on by
another process, be counted exactly, and outlive its worker. See `search.trials.leases`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState

from models import plan
from search.training.checkpoint import delete_checkpoint, latest_checkpoint, save_checkpoint
from search.training.randomness import derived_seed
from search.training.task import Task
from search.training.train import Epoch, StoppedError, Training, train
from search.trials.config import StudySpec, TrialConfig
from search.trials.space import suggest
from search.trials.storage import Database
from search.trials.view import ACCURACY, BEST_EPOCH, EPOCHS, ERROR, PARAMETERS, REASON, SECONDS

MAX_FAILURES_IN_A_ROW = 5
WAIT_SECONDS = 0.5  # between looks for work while others train the last trials


class StudyBrokenError(ValueError):
    """Trial after trial fails: something is wrong that no other configuration will mend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """One process that works on a study.

    Attributes:
        folder: where the study's checkpoints are kept.
        stop: set it to leave at the next training step; the running trial is laid aside.
        on_change: called after each finished trial.
    """

    db: Database
    study: optuna.Study
    spec: StudySpec
    task: Task
    folder: Path
    stop: threading.Event
    on_change: Callable[[], None] = lambda: None


def trial_seed(study_seed: int, trial_number: int) -> int:
    """A trial's seed: a function of the study's seed and the trial's number alone."""
    return derived_seed(study_seed, "trial", trial_number)
