"""One trial: trained from where it stopped, epoch by epoch, until it is complete or stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from optuna.trial import Trial, TrialState

from data.extensions import line_of
from models.checks import ArchitectureError, first_line, shown
from models.summary import sizes
from search.analysis.comparison import has_diverged
from search.dashboard.content import TrialPictures
from search.running.run import Run
from search.sampling.chooser import Chooser, should_prune
from search.sampling.registry import find_sampler
from search.spec.config import StudySpec, TrialConfig
from search.spec.space import share_of_limits, suggest
from search.store import StorageError, StudyBrokenError
from search.store.data import keep_weights
from search.store.leases import Lease, finish, sample
from search.store.records import best_epoch, epochs_of, record_epoch
from search.store.schema import ACCURACY, BEST_EPOCH, EPOCHS, ERROR, REASON, SECONDS
from search.training.epoch import Epoch, derived_seed
from search.training.files import (
    CheckpointUnwritableError,
    Remote,
    latest_checkpoint,
    save_checkpoint,
)

MAX_FAILURES_IN_A_ROW = 5
# For a failed trial with the reason; RUNNING: it is paused.
Ending = tuple[TrialState, str | None]


class DivergedError(Exception):
    """A loss that is no longer a finite number."""


def trial_seed(study_seed: int, trial_number: int) -> int:
    """Depends only on the study's seed and the trial's number."""
    return derived_seed(study_seed, "trial", trial_number)


def checkpoint_path(folder: Path | Remote, trial_number: int) -> Path | Remote:
    """Where a trial's checkpoint is. SQLite accepts any text as a number, even `../../x`."""
    if not isinstance(trial_number, int) or trial_number < 0:
        raise StorageError(f"a trial of the database has the number {shown(trial_number)}")
    return folder / f"trial-{trial_number}.pt"


def save_training(
    run: Run, path: Path | Remote, identity: dict[str, Any], state: dict[str, Any]
) -> None:
    """Replace a checkpoint; an error says that this failed, or that the folder is gone."""
    run.check()
    try:
        save_checkpoint(path, {"identity": identity, "training": state})
    except CheckpointUnwritableError:
        run.check()  # the folder may have been removed at this very moment
        raise


def train_trial(
    run: Run,
    lease: Lease,
    pictures: TrialPictures,
    chooser: Chooser | None,
    reported_to: Callable[[int, int], None],
) -> Generator[None, None, Ending]:
    """Train a trial, a slice for each `next()`; the generator returns how it ended.

    `chooser` pauses the trial if it is not worth its next epochs now. `reported_to` is called with
    its number and each epoch that it reports.

    Raises:
        StoppedError: the run was asked to stop.
        LostLeaseError: another worker took the trial over.
        StudyGoneError, StorageError, CheckpointError: the study cannot continue.
        Exception: anything else is the configuration's own fault.
    """
    if lease.exhausted:
        times = f"{lease.attempt - 1} times without a new epoch"
        return TrialState.FAIL, f"abandoned {times}: each time its worker was gone"
    db, spec, task = run.db, run.spec, run.task

    def begin(trial: Trial) -> tuple[TrialConfig, datetime | None]:
        config = suggest(trial, spec)
        with suppress(ArchitectureError):  # training it will raise the error
            for name, size in sizes(config.architecture, task.image_shape, task.classes).items():
                trial.set_user_attr(name, size)
        return config, trial.datetime_start

    ahead = find_sampler(spec.sampler).on_estimates
    config, started = sample(run.study, lease, begin, ahead=ahead)
    share, words = share_of_limits(config.architecture, spec, task.image_shape, task.classes)
    if share > 1:  # something other than our sampler has queued it
        return TrialState.FAIL, f"too large: it {words}"
    rows = epochs_of(db, lease.study_id, numbers=[lease.trial_number])
    reported = max((row.epoch for row in rows), default=-1)
    # Earlier holders decided about all epochs they reported, except that one which vanished or was
    # interrupted may not have come to the last.
    decided = reported - (not lease.was_paused)

    def ending_after(epoch: int) -> Ending | None:
        if should_prune(run.study, spec, lease, epoch):
            return TrialState.PRUNED, None
        goes_on = chooser is None or epoch <= decided or chooser.goes_on(lease, epoch)
        return None if goes_on else (TrialState.RUNNING, None)

    path = checkpoint_path(run.checkpoints, lease.trial_number)
    # The file must match this, because it may stem from a study since deleted.
    identity = {
        "trial": lease.trial_id,
        "started": str(started and started.astimezone(UTC)),
        "config": config.to_dict(),
        "content": None if task.content is None else task.content.to_dict(),
    }
    older = {**identity, "started": str(started)}  # earlier versions wrote the host's local time
    saved = latest_checkpoint(path, identity, older)
    state: dict[str, Any] | None = saved and saved["training"]
    if state is not None and state["epoch"] > reported:
        state = None  # the database lost reports, as in a power cut: they must be made again
    if state is None:  # they may have changed since the start, or are of a queued configuration
        keep_weights(run.study, [config.recipe.initial_weights])
    training = run.train(
        config.architecture,
        config.recipe,
        task,
        seed=trial_seed(spec.seed, spec.seed_number(lease.trial_number)),
        state=state,
        stop=run.stop,
        partial_epoch=True,
        metrics=spec.metrics,
        objective=spec.objective,
    )
    with closing(training):
        if training.epoch > 0 and (ending := ending_after(training.epoch)):
            return ending
        for epoch in training.slices():
            if epoch is not None:
                raise_if_diverged(epoch)
                record_epoch(db, lease, epoch, spec.value.of(epoch))
                reported_to(lease.trial_number, epoch.epoch)
                if epoch.epoch > 0:
                    save_training(run, path, identity, training.state())
                if ending := ending_after(epoch.epoch):
                    return ending
            yield
        pictures.upload(lease, lambda: training.confusion().numpy())
    return TrialState.COMPLETE, None


def raise_if_diverged(epoch: Epoch) -> None:
    """Raises DivergedError if a loss is NaN or infinite."""
    for name in ("train_loss", "validation_loss"):
        value = getattr(epoch, name)
        if not math.isfinite(value):
            raise DivergedError(f"diverged: {name.replace('_', ' ')} became {value}")


def is_out_of_memory(error: Exception) -> bool:
    """CUDA's libraries and the CPU's allocator say so only in the message.

    cuDNN, where no method of a convolution finds the memory it needs, says something else.
    """
    words = ("out of memory", "ALLOC_FAILED", "can't allocate memory", "unable to find an engine")
    out = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return out or any(it in str(error) for it in words)


def describe(error: Exception) -> str:
    """One line for the user: the reason that a failed trial shows."""
    text = first_line(error)
    if is_out_of_memory(error):
        return f"out of memory: {text}" if text else "out of memory"
    if isinstance(error, DivergedError):
        return text
    return f"{line_of(error)}{type(error).__name__}: {text}"


def end_trial(run: Run, lease: Lease, state: TrialState, reason: str | None) -> None:
    """Mark a trial as ended in Optuna, with attributes for its dashboard, and give up the lease.

    A paused one (RUNNING) is not marked as ended. For errors see `finish`.
    """
    numbers, objective = [lease.trial_number], run.spec.objective
    rows = epochs_of(run.db, lease.study_id, numbers=numbers, objective=objective)
    attributes: dict[str, Any] = {
        EPOCHS: max((row.epoch for row in rows), default=0),
        SECONDS: round(sum(row.seconds for row in rows), 2),
    }
    value = None
    if (best := best_epoch(rows)) is not None:
        attributes |= {
            BEST_EPOCH: best.epoch,
            ERROR: round(best.validation_error, 6),
            ACCURACY: round(1 - best.validation_error, 6),
        }
        value = best.value if state == TrialState.COMPLETE else None
    if reason is not None:
        attributes[REASON] = reason
    finish(run.study, lease, state=state, value=value, attributes=attributes)


class FailuresInARow:
    """Counts one process's failed trials until another of its trials gets further than they did."""

    def __init__(self) -> None:
        self._failed: list[tuple[int, str | None]] = []  # by number and reason
        self._reached: dict[int, int] = {}  # the last epoch of those that have not failed

    def reported(self, number: int, epoch: int) -> None:
        self._reached[number] = epoch

    def ended(self, spec: StudySpec, number: int, state: TrialState, reason: str | None) -> None:
        """Raises StudyBrokenError if this is the last of too many failures.

        A comparison's trial that diverged is a result of its arm, no failure.
        """
        if state not in (TrialState.COMPLETE, TrialState.FAIL):
            return
        if spec.is_comparison and has_diverged(reason):
            return
        reached = self._reached.pop(number, -1)
        if state == TrialState.COMPLETE or any(it > reached for it in self._reached.values()):
            self._failed.clear()
            self._reached.clear()
        if state == TrialState.COMPLETE:
            return
        self._failed.append((number, reason))
        if len(self._failed) < MAX_FAILURES_IN_A_ROW:
            return
        remedy = "fix it, then run the same command again"
        if spec.is_comparison:  # `worker` has no such option
            again = " ".join(str(one) for one, _ in self._failed)
            remedy = f"fix it, then run study with --continue {again}, which trains "
            remedy += "these trials again"
        if files := ", ".join(one.name for one in spec.extensions):
            remedy += f"; if you change {files}, give another --study NAME"
        raise StudyBrokenError(
            f"the last {len(self._failed)} trials failed, so the study stops; trial {number}: "
            f"{reason}; {remedy}"
        )
