"""The trial loop: claim a trial, advance it epoch by epoch, report, prune, tell.

Optuna decides (sampler, pruner, storage), the loop drives: only so can a trial be carried on by
another process, be counted exactly, and outlive its worker. See `search.trials.claims`.
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
from optuna.trial import Trial, TrialState

from models.anatomy import count_parameters
from search.training.checkpoint import delete_checkpoint, latest_checkpoint, save_checkpoint
from search.training.device import return_memory
from search.training.randomness import derived_seed
from search.training.task import Task
from search.training.train import Epoch, StoppedError, train
from search.trials.claims import LEASE_SECONDS, Done, Wait, claim
from search.trials.config import StudySpec, TrialConfig
from search.trials.heartbeat import Heartbeat
from search.trials.history import best_epoch, epochs_of_trial, record_epoch
from search.trials.journal import Journal
from search.trials.leases import Lease, LostLeaseError, finish, release, sample
from search.trials.space import suggest
from search.trials.storage import Database, StorageError, with_retry
from search.trials.view import ACCURACY, BEST_EPOCH, EPOCHS, ERROR, PARAMETERS, REASON, SECONDS

MAX_FAILURES_IN_A_ROW = 5
WAIT_SECONDS = 0.5  # between looks for work while others train the last trials


class StudyBrokenError(ValueError):
    """Trial after trial fails: something is wrong that no other configuration will mend."""


class CheckpointUnwritableError(ValueError):
    """No room or no right to write a checkpoint; going on would put finished epochs at risk."""


class DivergedError(Exception):
    """A loss that is no number any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """One process that works on a study.

    Attributes:
        folder: where the study's checkpoints are kept.
        stop: set it to leave at the next training step; the running trial is laid aside.
        on_change: called after each trial that ended.
        lease_seconds: how long a trial stays ours after we were last heard of.
        journal: told of every report that the database has acknowledged; for tests.
    """

    db: Database
    study: optuna.Study
    spec: StudySpec
    task: Task
    folder: Path
    stop: threading.Event
    on_change: Callable[[], None] = lambda: None
    lease_seconds: float = LEASE_SECONDS
    journal: Journal | None = None


def trial_seed(study_seed: int, trial_number: int) -> int:
    """A trial's seed: a function of the study's seed and the trial's number alone."""
    return derived_seed(study_seed, "trial", trial_number)


def work(worker: Worker) -> None:
    """Train trials until the study has its total, or `stop` is set.

    Raises:
        StudyBrokenError: several trials in a row failed without one success.
        StorageError: the database stayed away for longer than we wait.
    """
    with Heartbeat(worker.db) as heartbeat:
        while not worker.stop.is_set():
            match claim(
                worker.db,
                worker.study,
                total=worker.spec.trials,
                lease_seconds=worker.lease_seconds,
            ):
                case Done():
                    return
                case Wait():
                    worker.stop.wait(WAIT_SECONDS)
                case Lease() as lease:
                    with heartbeat.keep(lease):
                        _bring_to_an_end(worker, lease, lambda: heartbeat.lost(lease))
                    return_memory()  # out here, where no error holds on to tensors any more
                    _give_up_if_broken(worker)
                    worker.on_change()


def _bring_to_an_end(worker: Worker, lease: Lease, lost: Callable[[], bool]) -> None:
    """Complete, prune or fail one trial; or lay it aside, if the worker is to stop."""
    checkpoint = checkpoint_path(worker.folder, lease.trial_number)
    try:
        state, reason = _outcome(worker, lease, checkpoint, lost)
        _end(worker, lease, state, reason)
    except StoppedError:
        release(worker.db, lease)
    except CheckpointUnwritableError:
        release(worker.db, lease)
        raise
    except LostLeaseError:
        pass  # another worker took the trial over while this one was away; so is the checkpoint
    else:
        delete_checkpoint(checkpoint)


def _outcome(
    worker: Worker, lease: Lease, checkpoint: Path, lost: Callable[[], bool]
) -> tuple[TrialState, str | None]:
    """How the trial ended, and for a failed one why."""
    if lease.exhausted:
        vanished = lease.attempt - 1
        return TrialState.FAIL, f"abandoned {vanished} times: each time its worker was gone"
    try:
        return _advance(worker, lease, checkpoint, lost), None
    except (StoppedError, LostLeaseError, StorageError, CheckpointUnwritableError):
        raise
    except Exception as error:
        # Whatever a configuration does to its training is its own fault, and not the study's.
        reason = _describe(error)
    return TrialState.FAIL, reason


def _advance(
    worker: Worker, lease: Lease, checkpoint: Path, lost: Callable[[], bool]
) -> TrialState:
    """Train the trial from where it stands to its end; says whether it was pruned."""
    db, study, spec, task = worker.db, worker.study, worker.spec, worker.task
    config = sample(db, study, lease, lambda trial: suggest(trial, spec))
    identity = _identity(worker, lease, config)
    training = train(
        config.architecture,
        config.recipe,
        task,
        seed=trial_seed(spec.seed, lease.trial_number),
        state=_saved_state(checkpoint, identity),
        stop=worker.stop,
        early_look=True,
    )
    if training.epoch > 0 and _is_hopeless(worker, lease, config, training.epoch):
        return TrialState.PRUNED  # what the worker before us died too early to say
    for epoch in training:
        if lost():
            raise LostLeaseError(f"trial {lease.trial_number} was taken over")
        _refuse_nonsense(epoch)
        _record(worker, lease, epoch)
        if epoch.number > 0:
            _save(checkpoint, {"identity": identity, "training": training.state()})
        if _is_hopeless(worker, lease, config, epoch.number):
            return TrialState.PRUNED
    return TrialState.COMPLETE


def _is_hopeless(worker: Worker, lease: Lease, config: TrialConfig, epoch: int) -> bool:
    """What the pruner says after an epoch; after the last one the trial is complete anyway."""
    if epoch == config.recipe.epochs:
        return False
    # A trial made anew knows all its reports, also those of workers before us.
    return with_retry(worker.db, lambda: Trial(worker.study, lease.trial_id).should_prune())


def checkpoint_path(folder: Path, trial_number: int) -> Path:
    return folder / "checkpoints" / f"trial-{trial_number}.pt"


def _identity(worker: Worker, lease: Lease, config: TrialConfig) -> dict[str, Any]:
    """What a checkpoint must agree with: its file may stem from a study since deleted."""
    return {
        "trial": lease.trial_id,
        "started": str(worker.study._storage.get_trial(lease.trial_id).datetime_start),
        "config": config.to_dict(),
    }


def _saved_state(checkpoint: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    saved = latest_checkpoint(checkpoint)
    if saved is None or saved["identity"] != identity:
        return None
    state: dict[str, Any] = saved["training"]
    return state


def _save(checkpoint: Path, state: dict[str, Any]) -> None:
    try:
        save_checkpoint(checkpoint, state)
    except OSError as error:
        raise CheckpointUnwritableError(
            f"cannot write {checkpoint} ({error.strerror}); nothing is lost: make room, "
            "then run the same command again"
        ) from error


def _refuse_nonsense(epoch: Epoch) -> None:
    for name in ("train_loss", "validation_loss"):
        value = getattr(epoch, name)
        if not math.isfinite(value):
            raise DivergedError(f"diverged: {name.replace('_', ' ')} became {value}")


def _record(worker: Worker, lease: Lease, epoch: Epoch) -> None:
    record_epoch(
        worker.db,
        lease,
        epoch=epoch.number,
        train_loss=epoch.train_loss,
        train_error=epoch.train_error,
        validation_loss=epoch.validation_loss,
        validation_error=epoch.validation_error,
        learning_rate=epoch.learning_rate,
        seconds=epoch.seconds,
        images=epoch.images,
    )
    if worker.journal is not None:
        worker.journal.acknowledge(lease.trial_number, epoch.number, epoch.validation_loss)


def _end(worker: Worker, lease: Lease, state: TrialState, reason: str | None) -> None:
    rows = epochs_of_trial(worker.db, lease.trial_id)
    best = best_epoch(rows)
    attributes: dict[str, Any] = {
        EPOCHS: max((row.epoch for row in rows), default=0),
        SECONDS: round(sum(row.seconds for row in rows), 2),
    }
    if best is not None:
        attributes |= {
            BEST_EPOCH: best.epoch,
            ERROR: round(best.validation_error, 6),
            ACCURACY: round(1 - best.validation_error, 6),
        }
    parameters = _count_parameters(worker, lease)
    if parameters is not None:
        attributes[PARAMETERS] = parameters
    if reason is not None:
        attributes[REASON] = reason
    value = best.validation_loss if state == TrialState.COMPLETE and best is not None else None
    finish(worker.db, lease, worker.study, state=state, value=value, attributes=attributes)


def _count_parameters(worker: Worker, lease: Lease) -> int | None:
    """None where the trial failed before it had a network."""
    trial = worker.study._storage.get_trial(lease.trial_id)
    try:
        architecture = suggest(trial, worker.spec).architecture
        return count_parameters(architecture, worker.task.image_shape, worker.task.classes)
    except ValueError:
        return None


def _describe(error: Exception) -> str:
    """One line for people: the reason that a failed trial shows."""
    first_line = (str(error).splitlines() or [""])[0][:300]
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"out of memory: {first_line}" if first_line else "out of memory"
    if isinstance(error, DivergedError):
        return first_line
    return f"{type(error).__name__}: {first_line}"


def _give_up_if_broken(worker: Worker) -> None:
    ended = worker.study.get_trials(
        deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    )
    ended.sort(key=lambda trial: (trial.datetime_complete, trial.number))
    latest = ended[-MAX_FAILURES_IN_A_ROW:]
    failed = [trial for trial in latest if trial.state == TrialState.FAIL]
    if len(failed) == MAX_FAILURES_IN_A_ROW:
        reason = failed[-1].user_attrs.get(REASON, "no reason given")
        raise StudyBrokenError(
            f"the last {len(failed)} trials failed, so the study stops; trial "
            f"{failed[-1].number}: {reason}; mend that, then run the same command again"
        )
