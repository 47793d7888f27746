"""How a trial ends: complete, pruned, or failed with a reason; and when failures end the study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Row, select

from models.summary import count_parameters
from search.running.worker import Worker
from search.spec.space import suggest
from search.store.errors import StudyBrokenError
from search.store.history import best_epoch, epochs_of_trial
from search.store.leases import Lease, finish
from search.store.pictures import announcement, drawable
from search.store.storage import snapshot, with_retry
from search.store.tables import trials
from search.store.view import ACCURACY, BEST_EPOCH, EPOCHS, ERROR, PARAMETERS, REASON, SECONDS
from search.training.epoch import Epoch

MAX_FAILURES_IN_A_ROW = 5


class DivergedError(Exception):
    """A loss that is no number any more."""


def end(worker: Worker, lease: Lease, state: TrialState, reason: str | None) -> None:
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


def refuse_nonsense(epoch: Epoch) -> None:
    for name in ("train_loss", "validation_loss"):
        value = getattr(epoch, name)
        if not math.isfinite(value):
            raise DivergedError(f"diverged: {name.replace('_', ' ')} became {value}")


def is_out_of_memory(error: Exception) -> bool:
    """CUDA's libraries and the CPU's allocator say so in words only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in ("out of memory", "ALLOC_FAILED", "can't allocate memory")
    )


def describe(error: Exception) -> str:
    """One line for people: the reason that a failed trial shows."""
    first_line = (str(error).splitlines() or [""])[0][:300]
    if is_out_of_memory(error):
        return f"out of memory: {first_line}" if first_line else "out of memory"
    if isinstance(error, DivergedError):
        return first_line
    return f"{type(error).__name__}: {first_line}"


def give_up_if_broken(worker: Worker) -> None:
    latest = _latest_ended(worker)
    failed = [row for row in latest if row.state == TrialState.FAIL]
    if len(failed) == MAX_FAILURES_IN_A_ROW:
        attributes = worker.db.optuna.get_trial(failed[0].trial_id).user_attrs
        raise StudyBrokenError(
            f"the last {len(failed)} trials failed, so the study stops; trial "
            f"{failed[0].number}: {attributes.get(REASON, 'no reason given')}; mend that, then run "
            "the same command again"
        )


def _latest_ended(worker: Worker) -> Sequence[Row[int, int, TrialState]]:
    """As many as may fail in a row, the latest first."""
    query = (
        select(trials.c.trial_id, trials.c.number, trials.c.state)
        .where(
            trials.c.study_id == worker.study._study_id,
            trials.c.state.in_([state for state in TrialState if state.is_finished()]),
        )
        .order_by(trials.c.datetime_complete.desc(), trials.c.number.desc())
        .limit(MAX_FAILURES_IN_A_ROW)
    )

    def attempt() -> Sequence[Row[int, int, TrialState]]:
        with snapshot(worker.db) as connection:
            return connection.execute(query).all()

    return with_retry(worker.db, attempt)
