"""What happened: every epoch of every trial, and every time the test set was opened."""

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, func, insert, select, update

from search.trials.leases import Lease, fence
from search.trials.storage import Database, snapshot, transaction, with_retry
from search.trials.tables import DatabaseClock, epochs, results


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRow:
    """One report.

    Attributes:
        epoch: 1 for the first; 0 is the early look inside it.
        train_loss, train_error, validation_loss, validation_error: NaN where not measured.
        best_validation_loss: the lowest of this epoch and all before; NaN while none was finite.
        seconds, images: spent and trained on since the report before.
        attempt: of the trial, see `Lease`.
        reported_at: seconds since 1970 (UTC), by the database's clock.
    """

    trial_id: int
    trial_number: int
    epoch: int
    train_loss: float
    train_error: float
    validation_loss: float
    validation_error: float
    best_validation_loss: float
    learning_rate: float
    seconds: float
    images: int
    worker: str
    attempt: int
    reported_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultRow:
    """One opening of the test set.

    Attributes:
        opened_at: by the database's clock, UTC.
        figures: None if scoring was begun and did not end.
    """

    result_id: str
    study_name: str
    trial_number: int
    opened_at: datetime
    seeds: tuple[int, ...]
    figures: Mapping[str, Any] | None


def record_epoch(
    db: Database,
    lease: Lease,
    *,
    epoch: int,
    train_loss: float,
    train_error: float,
    validation_loss: float,
    validation_error: float,
    learning_rate: float,
    seconds: float,
    images: int,
) -> None:
    """Report an epoch, to our table and to Optuna (validation loss at step `epoch`) together.

    When it returns, the report is on disk. The first report of an epoch stands: later ones, of a
    trial that had to start over, change nothing.

    Raises:
        LostLeaseError: see `fence`; nothing was written.
        StorageError: the database stayed away.
    """

    def attempt() -> None:
        with transaction(db) as connection:
            fence(connection, lease)
            best_of = connection.execute(
                select(epochs.c.epoch, epochs.c.best_validation_loss)
                .where(epochs.c.trial_id == lease.trial_id)
                .order_by(epochs.c.epoch)
            ).all()
            if any(row.epoch == epoch for row in best_of):
                return
            losses = [row.best_validation_loss for row in best_of if row.epoch < epoch]
            losses += [validation_loss if math.isfinite(validation_loss) else None]
            connection.execute(
                insert(epochs).values(
                    trial_id=lease.trial_id,
                    study_id=lease.study_id,
                    trial_number=lease.trial_number,
                    epoch=epoch,
                    train_loss=_null_if_nan(train_loss),
                    train_error=_null_if_nan(train_error),
                    validation_loss=_null_if_nan(validation_loss),
                    validation_error=_null_if_nan(validation_error),
                    best_validation_loss=min((x for x in losses if x is not None), default=None),
                    learning_rate=_null_if_nan(learning_rate),
                    seconds=_null_if_nan(seconds),
                    images=images,
                    worker=lease.worker,
                    attempt=lease.attempt,
                    reported_at=DatabaseClock(),
                )
            )
            db.optuna.set_trial_intermediate_value(lease.trial_id, epoch, validation_loss)

    with_retry(db, attempt)


def epochs_of(db: Database, study_id: int) -> list[EpochRow]:
    """All reports of a study, by trial number and epoch.

    Raises:
        StorageError: the database stayed away.
    """
    return _epochs_where(db, epochs.c.study_id == study_id)


def epochs_of_trial(db: Database, trial_id: int) -> list[EpochRow]:
    """All reports of one trial, by epoch.

    Raises:
        StorageError: the database stayed away.
    """
    return _epochs_where(db, epochs.c.trial_id == trial_id)


def _epochs_where(db: Database, condition: ColumnElement[bool]) -> list[EpochRow]:
    columns = [epochs.c[name] for name in EpochRow.__dataclass_fields__]
    query = select(*columns).where(condition).order_by(epochs.c.trial_number, epochs.c.epoch)

    def attempt() -> list[EpochRow]:
        with snapshot(db) as connection:
            return [_epoch_row(row) for row in connection.execute(query).mappings()]

    return with_retry(db, attempt)


def count_reports(db: Database, study_id: int) -> int:
    """How many epochs of a study's trials were reported so far.

    Raises:
        StorageError: the database stayed away.
    """
    query = select(func.count()).where(epochs.c.study_id == study_id)

    def attempt() -> int:
        with snapshot(db) as connection:
            return connection.execute(query).scalar_one()

    return with_retry(db, attempt)


def values_at(db: Database, study_id: int, epoch: int) -> list[tuple[int, float]]:
    """(trial number, lowest validation loss up to that epoch) of each trial that reported it.

    Trials of every state, running and failed too, as far as they had a finite loss by then.

    Raises:
        StorageError: the database stayed away.
    """
    query = select(epochs.c.trial_number, epochs.c.best_validation_loss).where(
        epochs.c.study_id == study_id,
        epochs.c.epoch == epoch,
        epochs.c.best_validation_loss.is_not(None),
    )

    def attempt() -> list[tuple[int, float]]:
        with snapshot(db) as connection:
            return [(number, loss) for number, loss in connection.execute(query)]

    return with_retry(db, attempt)


def best_epoch(rows: Iterable[EpochRow]) -> EpochRow | None:
    """The finished epoch with the lowest validation loss; None where there is none."""
    finite = [row for row in rows if row.epoch > 0 and math.isfinite(row.validation_loss)]
    return min(finite, key=lambda row: row.validation_loss, default=None)


def add_result(db: Database, *, study_name: str, trial_number: int, seeds: Sequence[int]) -> str:
    """Record that the test set is about to be opened; returns the id for `complete_result`.

    Before and not after: a process that dies while it scores has seen the test set, too.

    Raises:
        StorageError: the database stayed away.
    """
    result_id = uuid.uuid4().hex

    def attempt() -> None:
        with transaction(db) as connection:
            there = select(results.c.result_id).where(results.c.result_id == result_id)
            if connection.execute(there).first() is None:
                connection.execute(
                    insert(results).values(
                        result_id=result_id,
                        study_name=study_name,
                        trial_number=trial_number,
                        opened_at=DatabaseClock(),
                        seeds=list(seeds),
                    )
                )

    with_retry(db, attempt)
    return result_id


def complete_result(db: Database, result_id: str, figures: Mapping[str, Any]) -> None:
    """Add what the scoring gave: anything that JSON can hold.

    Raises:
        StorageError: the database stayed away.
    """

    def attempt() -> None:
        with db.engine.begin() as connection:
            mine = update(results).where(results.c.result_id == result_id)
            connection.execute(mine.values(figures=dict(figures)))

    with_retry(db, attempt)


def results_of(db: Database, study_name: str) -> list[ResultRow]:
    """Every opening of the test set under that study's name, the earliest first.

    Raises:
        StorageError: the database stayed away.
    """
    query = select(results).where(results.c.study_name == study_name).order_by(results.c.opened_at)

    def attempt() -> list[ResultRow]:
        with snapshot(db) as connection:
            return [
                ResultRow(
                    result_id=row.result_id,
                    study_name=row.study_name,
                    trial_number=row.trial_number,
                    opened_at=datetime.fromtimestamp(row.opened_at, UTC),
                    seeds=tuple(row.seeds),
                    figures=row.figures,
                )
                for row in connection.execute(query)
            ]

    return with_retry(db, attempt)


def _epoch_row(stored: Mapping[Any, Any]) -> EpochRow:
    values: dict[str, Any] = {k: math.nan if v is None else v for k, v in stored.items()}
    return EpochRow(**values)


def _null_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
