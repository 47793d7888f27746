"""What happened: every epoch of every trial, and every test evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, null, select, update

from search.spec.objectives import OBJECTIVES, RAW_LOSS
from search.store.database import Database, read, write
from search.store.leases import MINE, Lease, fence
from search.store.schema import DatabaseClock, epochs, leases, results
from search.store.studies import StudyHandle
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
        is_ours: else of an earlier study of the name, whose trial it was.
    """

    result_id: str
    study_name: str
    trial_number: int
    opened_at: datetime
    seeds: tuple[int, ...]
    figures: Mapping[str, Any] | None
    is_ours: bool = True


_earlier = select(func.max(epochs.c.epoch), func.min(epochs.c.best_validation_loss)).where(
    epochs.c.trial_id == bindparam("of_trial"), epochs.c.epoch <= bindparam("to")
)


def record_epoch(db: Database, lease: Lease, epoch: Epoch, value: float) -> None:
    """Report an epoch, to our table and to Optuna (its value at step `epoch`) together.

    When it returns, no kill can undo the report. The first report of an epoch stands: later ones,
    of a trial that had to start over, change nothing.

    Raises:
        LostLeaseError: see `fence`; nothing was written.
    """
    measured = {item.name: getattr(epoch, item.name) for item in fields(Epoch)}
    row = {name: None if it != it else it for name, it in measured.items()}  # NaN
    row |= {
        "metrics": {k: v for k, v in epoch.metrics.items() if math.isfinite(v)} or None,
        "trial_id": lease.trial_id,
        "study_id": lease.study_id,
        "trial_number": lease.trial_number,
        "worker": lease.worker,
        "attempt": lease.attempt,
        "reported_at": DatabaseClock(),
    }

    def record(connection: Connection) -> None:
        fence(connection, lease)
        known = {"of_trial": lease.trial_id, "to": epoch.epoch}
        latest, lowest = connection.execute(_earlier, known).one()
        if latest == epoch.epoch:
            return  # it is there
        finite = [it for it in (lowest, value) if it is not None and math.isfinite(it)]
        best = min(finite, default=None)
        connection.execute(insert(epochs).values(**row, best_validation_loss=best))
        db.optuna.set_trial_intermediate_value(lease.trial_id, epoch.epoch, value)
        if lease.attempt > 1:  # the holders that vanished before this epoch count no more
            connection.execute(update(leases).where(MINE).values(abandonments=0), lease.key)

    write(db, record, durable=False)


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
    rows = []
    for found in read(db, lambda connection: connection.execute(query).mappings().all()):
        values: dict[str, Any] = {k: math.nan if v is None else v for k, v in found.items()}
        row = EpochRow(**{**values, "metrics": found["metrics"] or {}, "value": math.nan})
        rows.append(replace(row, value=OBJECTIVES[objective].of(row)))
    return rows


def count_reports(db: Database, study_id: int) -> int:
    """How many epochs of a study's trials were reported so far."""
    query = select(func.count()).where(epochs.c.study_id == study_id)
    return read(db, lambda connection: connection.execute(query).scalar_one())


def best_epoch(rows: Iterable[EpochRow]) -> EpochRow | None:
    """The finished epoch with the lowest value; None where there is none."""
    finite = [row for row in rows if row.epoch > 0 and math.isfinite(row.value)]
    return min(finite, key=lambda row: row.value, default=None)


def add_result(
    study: StudyHandle, *, trial_number: int, seeds: Sequence[int], result_id: str
) -> None:
    """Record that the test set is about to be evaluated on.

    Before and not after: a process that dies while it scores has seen the test set, too.

    Args:
        result_id: at most 32 characters; one that is on record already changes nothing, but that of
            an earlier study of the name becomes this one's.
    """

    def add(connection: Connection) -> None:
        mine = {"trial_number": trial_number, "identity": study.identity}
        of_it = results.c.result_id == result_id
        there = connection.execute(select(results.c.identity).where(of_it)).first()
        if there is not None and there.identity not in (None, study.identity):
            connection.execute(update(results).where(of_it).values(mine))
        elif there is None:
            row = {"result_id": result_id, "study_name": study.name, **mine}
            opened = insert(results).values(**row, seeds=list(seeds), opened_at=DatabaseClock())
            connection.execute(opened)

    study.write(add)  # under the study's lock, so that `results_of` keeps its order


def complete_result(db: Database, result_id: str, figures: Mapping[str, Any]) -> None:
    """Add what the evaluation gave, anything that JSON can hold; what was added first stands."""
    mine = (results.c.result_id == result_id, results.c.figures.is_(null()))
    added = update(results).where(*mine).values(figures=dict(figures))
    write(db, lambda connection: connection.execute(added))


def results_of(study: StudyHandle) -> list[ResultRow]:
    """Every test evaluation under the study's name, the earliest first."""
    query = select(results).where(results.c.study_name == study.name)
    query = query.order_by(results.c.opened_at, results.c.result_id)
    rows = []
    for found in read(study.db, lambda connection: connection.execute(query).mappings().all()):
        values = {**found, "opened_at": datetime.fromtimestamp(found["opened_at"], UTC)}
        is_ours = values.pop("identity") in (None, study.identity)
        rows.append(ResultRow(**{**values, "seeds": tuple(found["seeds"]), "is_ours": is_ours}))
    return rows
