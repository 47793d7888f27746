"""What happened: every epoch of every trial, and every test evaluation."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, insert, null, select, update

from search.spec.objectives import OBJECTIVES, RAW_LOSS
from search.store.database import Database, read, transaction, with_retry
from search.store.leases import Lease, fence
from search.store.schema import DatabaseClock, epochs, leases, results
from search.training.epoch import Epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRow(Epoch):
    """An epoch as it was recorded; measurements are NaN where there are none.

    Attributes:
        value: what the study lowers, see `search.spec.objectives`.
        attempt: of the trial, see `Lease`.
        reported_at: seconds since 1970 (UTC), by the database's clock.
    """

    trial_number: int
    value: float
    worker: str
    attempt: int
    reported_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRow:
    """One test evaluation.

    Attributes:
        opened_at: when it was begun, by the database's clock, UTC.
        figures: its metrics; None if it did not end.
    """

    result_id: str
    study_name: str
    trial_number: int
    opened_at: datetime
    seeds: tuple[int, ...]
    figures: Mapping[str, Any] | None


_latest = (
    select(epochs.c.epoch, epochs.c.best_validation_loss)
    .where(epochs.c.trial_id == bindparam("of_trial"), epochs.c.epoch <= bindparam("to"))
    .order_by(epochs.c.epoch.desc())
    .limit(1)
)


def record_epoch(db: Database, lease: Lease, epoch: Epoch, value: float) -> None:
    """Report an epoch, to our table and to Optuna (its value at step `epoch`) together.

    When it returns, no kill can undo the report. The first report of an epoch stands: later ones,
    of a trial that had to start over, change nothing.

    Raises:
        LostLeaseError: see `fence`; nothing was written.
    """
    measured = {item.name: getattr(epoch, item.name) for item in fields(Epoch)}
    row = {name: None if value != value else value for name, value in measured.items()}  # NaN
    row |= {
        "metrics": {k: v for k, v in epoch.metrics.items() if math.isfinite(v)} or None,
        "trial_id": lease.trial_id,
        "study_id": lease.study_id,
        "trial_number": lease.trial_number,
        "worker": lease.worker,
        "attempt": lease.attempt,
        "reported_at": DatabaseClock(),
    }

    def attempt() -> None:
        with transaction(db, durable=False) as connection:
            fence(connection, lease)
            latest = connection.execute(_latest, {"of_trial": lease.trial_id, "to": epoch.epoch})
            before = latest.first()
            if before is not None and before.epoch == epoch.epoch:
                return  # it is there
            values = [None if before is None else before.best_validation_loss]
            values += [value] if math.isfinite(value) else []
            best = min((it for it in values if it is not None), default=None)
            connection.execute(insert(epochs).values(**row, best_validation_loss=best))
            db.optuna.set_trial_intermediate_value(lease.trial_id, epoch.epoch, value)
            if lease.attempt > 1:  # the holders that vanished before this epoch count no more
                mine = and_(leases.c.trial_id == lease.trial_id, leases.c.claim == lease.claim)
                connection.execute(update(leases).where(mine).values(abandonments=0))

    with_retry(db, attempt)


def epochs_of(
    db: Database,
    study_id: int,
    *,
    trials: Sequence[int] | None = None,
    objective: str = RAW_LOSS,
) -> list[EpochRow]:
    """Reports of a study, by trial number and epoch; of all trials, or of those numbers.

    Args:
        objective: the study's, which decides the rows' values.
    """
    condition = epochs.c.study_id == study_id
    if trials is not None:
        condition &= epochs.c.trial_number.in_(trials)
    return _epochs_where(db, condition, objective)


def epochs_of_trial(db: Database, trial_id: int, objective: str = RAW_LOSS) -> list[EpochRow]:
    """All reports of one trial, by epoch."""
    return _epochs_where(db, epochs.c.trial_id == trial_id, objective)


def _epochs_where(db: Database, condition: ColumnElement[bool], objective: str) -> list[EpochRow]:
    columns = [epochs.c[item.name] for item in fields(EpochRow) if item.name != "value"]
    query = select(*columns).where(condition).order_by(epochs.c.trial_number, epochs.c.epoch)
    rows = read(db, lambda connection: connection.execute(query).mappings().all())
    return [_epoch_row(row, objective) for row in rows]


def _epoch_row(row: Mapping[Any, Any], objective: str) -> EpochRow:
    values: dict[str, Any] = {k: math.nan if v is None else v for k, v in row.items()}
    epoch = EpochRow(**{**values, "metrics": row["metrics"] or {}, "value": math.nan})
    return replace(epoch, value=OBJECTIVES[objective].of(epoch))


def count_reports(db: Database, study_id: int) -> int:
    """How many epochs of a study's trials were reported so far."""
    query = select(func.count()).where(epochs.c.study_id == study_id)
    return read(db, lambda connection: connection.execute(query).scalar_one())


def best_epoch(rows: Iterable[EpochRow]) -> EpochRow | None:
    """The finished epoch with the lowest value; None where there is none."""
    finite = [row for row in rows if row.epoch > 0 and math.isfinite(row.value)]
    return min(finite, key=lambda row: row.value, default=None)


def add_result(
    db: Database,
    *,
    study_name: str,
    trial_number: int,
    seeds: Sequence[int],
    result_id: str | None = None,
    study_id: int | None = None,
) -> str:
    """Record that the test set is about to be evaluated on; returns the id for `complete_result`.

    Before and not after: a process that dies while it scores has seen the test set, too.

    Args:
        result_id: at most 32 characters; one that is on record already changes nothing.
        study_id: to be locked meanwhile, so that `results_of` keeps its order.
    """
    row = {
        "result_id": result_id or uuid.uuid4().hex,
        "study_name": study_name,
        "trial_number": trial_number,
        "opened_at": DatabaseClock(),
        "seeds": list(seeds),
    }

    def attempt() -> None:
        with transaction(db, study_id=study_id) as connection:
            there = select(results.c.result_id).where(results.c.result_id == row["result_id"])
            if connection.execute(there).first() is None:
                connection.execute(insert(results).values(row))

    with_retry(db, attempt)
    return str(row["result_id"])


def complete_result(db: Database, result_id: str, figures: Mapping[str, Any]) -> None:
    """Add what the evaluation gave, anything that JSON can hold; what was added first stands."""
    mine = and_(results.c.result_id == result_id, results.c.figures.is_(null()))

    def attempt() -> None:
        with db.engine.begin() as connection:
            connection.execute(update(results).where(mine).values(figures=dict(figures)))

    with_retry(db, attempt)


def results_of(db: Database, study_name: str) -> list[ResultRow]:
    """Every test evaluation under that study's name, the earliest first."""
    query = select(results).where(results.c.study_name == study_name)
    query = query.order_by(results.c.opened_at, results.c.result_id)
    rows = read(db, lambda connection: connection.execute(query).mappings().all())
    return [
        ResultRow(
            **{
                **row,
                "opened_at": datetime.fromtimestamp(row["opened_at"], UTC),
                "seeds": tuple(row["seeds"]),
            }
        )
        for row in rows
    ]
