"""The trial loop: claim trials, advance them in turn, report, prune, tell.

Optuna decides (sampler, pruner, storage), the loop drives: only so can a trial be carried on by
another process, be counted exactly, and outlive its worker. See `search.trials.claims`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from models.anatomy import count_parameters
from search.training.checkpoint import delete_checkpoint, latest_checkpoint, save_checkpoint
from search.training.device import MemoryGauge, return_memory
from search.training.randomness import derived_seed
from search.training.task import Task
from search.training.train import Epoch, StoppedError, train
from search.trials.choosing import is_hopeless
from search.trials.claims import COUNTED, COUNTED_OF_ARMS, LEASE_SECONDS, Done, Wait, claim
from search.trials.config import StudySpec, TrialConfig
from search.trials.heartbeat import Heartbeat
from search.trials.history import best_epoch, epochs_of_trial, record_epoch
from search.trials.journal import Journal
from search.trials.leases import Lease, LostLeaseError, finish, release, sample
from search.trials.packing import Packing
from search.trials.pictures import announcement, drawable, record_confusion
from search.trials.slots import Course, CrowdedError, Slots
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
        stop: set it to leave at the next training step; the running trials are laid aside.
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
    on_change: Callable[[], None] = lambda: None
    lease_seconds: float = LEASE_SECONDS
    journal: Journal | None = None
    trials_at_a_time: int | None = None


def trial_seed(study_seed: int, trial_number: int) -> int:
    """A trial's seed: a function of the study's seed and the trial's number alone."""
    return derived_seed(study_seed, "trial", trial_number)


def work(worker: Worker) -> None:
    """Train trials until the study has its total, or `stop` is set; lay aside what is left then.

    Raises:
        StudyBrokenError: several trials in a row failed without one success.
        StorageError: the database stayed away for longer than we wait.
        CheckpointUnwritableError: a finished epoch could not be saved.
    """
    slots = Slots(_packing(worker))
    with Heartbeat(worker.db) as heartbeat:
        try:
            while not worker.stop.is_set():
                _claim_more(worker, slots, heartbeat)
                if not slots:
                    return
                _advance(worker, slots)
        except StoppedError:
            pass
        except StorageError:
            slots.clear()  # whose leases run out by themselves: nothing can be written now
            raise
        finally:
            held = slots.leases
            slots.clear()
            for lease in held:
                release(worker.db, lease)


def _packing(worker: Worker) -> Packing:
    if worker.trials_at_a_time is not None:
        return Packing(limit=worker.trials_at_a_time)
    device = worker.task.device
    return Packing(adapts=device.type == "cuda", fits=MemoryGauge(device).fits)


def _claim_more(worker: Worker, slots: Slots, heartbeat: Heartbeat) -> None:
    """Fill the free slots. On return none is filled only if there is nothing to do, ever."""
    while slots.has_room() and not worker.stop.is_set():
        match claim(
            worker.db,
            worker.study,
            total=worker.spec.trials,
            counted=COUNTED_OF_ARMS if worker.spec.is_comparison else COUNTED,
            lease_seconds=worker.lease_seconds,
        ):
            case Lease() as lease:
                start = partial(_course, worker, lease, heartbeat, slots)
                slots.add(lease, start, heartbeat.keep(lease))
            case Wait() if not slots:
                worker.stop.wait(WAIT_SECONDS)
            case Done() if not slots:
                return
            case _:
                slots.rest(WAIT_SECONDS)


def _advance(worker: Worker, slots: Slots) -> None:
    """Train one trial for a slice; complete, prune or fail it if that was the last one."""
    slot, crowded = slots.next(), False
    try:
        ending = slots.advance(slot)
        if ending is None:
            return
        state, reason = ending
        _end(worker, slot.lease, state, reason)
    except LostLeaseError:
        slots.remove(slot)  # another worker took the trial over; its checkpoint is in use there
        return
    except CrowdedError:
        crowded = True
    # Out here no error holds on to tensors any more.
    if crowded:
        slots.crowd_out(slot)
        return_memory()
        return
    slots.remove(slot)
    delete_checkpoint(checkpoint_path(worker.folder, slot.lease.trial_number))
    return_memory(of_gpu=not slots)
    if state == TrialState.FAIL:
        _give_up_if_broken(worker)
    worker.on_change()


def _course(worker: Worker, lease: Lease, heartbeat: Heartbeat, slots: Slots) -> Course:
    """The training of one trial, a slice for each `next()`; its value is how the trial ended."""
    if lease.exhausted:
        vanished = lease.attempt - 1
        return TrialState.FAIL, f"abandoned {vanished} times: each time its worker was gone"
    try:
        return (yield from _train(worker, lease, heartbeat)), None
    except (StoppedError, LostLeaseError, StorageError, CheckpointUnwritableError):
        raise
    except Exception as error:
        if _is_out_of_memory(error) and not slots.is_alone():
            raise CrowdedError from error
        # Whatever a configuration does to its training is its own fault, and not the study's.
        reason = _describe(error)
    return TrialState.FAIL, reason


def _train(worker: Worker, lease: Lease, heartbeat: Heartbeat) -> Generator[None, None, TrialState]:
    """Train the trial from where it stands to its end; says whether it was pruned."""
    db, study, spec, task = worker.db, worker.study, worker.spec, worker.task
    config, started = sample(
        db, study, lease, lambda trial: (suggest(trial, spec), trial.datetime_start)
    )
    checkpoint = checkpoint_path(worker.folder, lease.trial_number)
    identity = _identity(lease, started, config)
    training = train(
        config.architecture,
        config.recipe,
        task,
        seed=trial_seed(spec.seed, spec.seed_number(lease.trial_number)),
        state=_saved_state(worker, lease, checkpoint, identity),
        stop=worker.stop,
        early_look=True,
    )
    with closing(training):
        if training.epoch > 0 and _is_hopeless(worker, lease, config, training.epoch):
            return TrialState.PRUNED  # what the worker before us died too early to say
        for epoch in training.slices():
            if epoch is not None:
                if heartbeat.lost(lease):
                    raise LostLeaseError(f"trial {lease.trial_number} was taken over")
                _refuse_nonsense(epoch)
                _record(worker, lease, epoch)
                if epoch.number > 0:
                    _save(checkpoint, {"identity": identity, "training": training.state()})
                if _is_hopeless(worker, lease, config, epoch.number):
                    return TrialState.PRUNED
            yield
        record_confusion(db, lease, training.confusion().numpy())
    return TrialState.COMPLETE


def _is_hopeless(worker: Worker, lease: Lease, config: TrialConfig, epoch: int) -> bool:
    """What the pruner says after an epoch; after the last one the trial is complete anyway."""
    if epoch == config.recipe.epochs:
        return False
    return with_retry(worker.db, lambda: is_hopeless(worker.study, lease.trial_id, epoch))


def checkpoint_path(folder: Path, trial_number: int) -> Path:
    return folder / "checkpoints" / f"trial-{trial_number}.pt"


def _identity(lease: Lease, started: datetime | None, config: TrialConfig) -> dict[str, Any]:
    """What a checkpoint must agree with: its file may stem from a study since deleted."""
    return {
        "trial": lease.trial_id,
        "started": str(started),
        "config": config.to_dict(),
    }


def _saved_state(
    worker: Worker, lease: Lease, checkpoint: Path, identity: dict[str, Any]
) -> dict[str, Any] | None:
    saved = latest_checkpoint(checkpoint)
    if saved is None or saved["identity"] != identity:
        return None
    state: dict[str, Any] = saved["training"]
    reports = epochs_of_trial(worker.db, lease.trial_id)
    if state["epoch"] > max((report.epoch for report in reports), default=0):
        return None  # a power cut undid reports (see `transaction`): they are to be made again
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
    trial = worker.study._storage.get_trial(lease.trial_id)
    parameters = _count_parameters(worker, trial)
    if parameters is not None:
        attributes[PARAMETERS] = parameters
    if reason is not None:
        attributes[REASON] = reason
    value = best.validation_loss if state == TrialState.COMPLETE and best is not None else None
    finish(
        worker.db,
        lease,
        worker.study,
        state=state,
        value=value,
        attributes=attributes,
        system_attributes=announcement(drawable(trial.system_attrs, epochs=attributes[EPOCHS])),
    )


def _count_parameters(worker: Worker, trial: FrozenTrial) -> int | None:
    """None where the trial failed before it had a network."""
    try:
        architecture = suggest(trial, worker.spec).architecture
        return count_parameters(architecture, worker.task.image_shape, worker.task.classes)
    except ValueError:
        return None


def _is_out_of_memory(error: Exception) -> bool:
    """CUDA's libraries and the CPU's allocator say so in words only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    )


def _describe(error: Exception) -> str:
    """One line for people: the reason that a failed trial shows."""
    first_line = (str(error).splitlines() or [""])[0][:300]
    if _is_out_of_memory(error):
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
