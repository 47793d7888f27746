"""What happened: every epoch of every trial, and every time the test set was opened."""

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Insert,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    null,
    select,
    union_all,
    update,
)

from search.store.leases import Lease, fence, note_progress
from search.store.storage import Database, snapshot, transaction, with_retry
from search.store.tables import AT_ONCE, DatabaseClock, epochs, insert_for, results


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
class Standing:
    """A trial's merit after an epoch among those that came so far.

    Attributes:
        loss: the lowest validation loss up to that epoch; NaN if none was finite.
        rivals: other trials of every state, running and failed too, with a finite loss by then.
        better: how many of them had a lower one.
    """

    loss: float
    rivals: int
    better: int


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

    When it returns, no kill can undo the report, and it is on disk: on SQLite, within a second of
    another report perhaps only with the next write (see `transaction`). The first report of an
    epoch stands: later ones, of a trial that had to start over, change nothing.

    Raises:
        LostLeaseError: see `fence`; nothing was written.
        StorageError: the database stayed away.
    """

    row = {
        "trial_id": lease.trial_id,
        "study_id": lease.study_id,
        "trial_number": lease.trial_number,
        "epoch": epoch,
        "train_loss": _null_if_nan(train_loss),
        "train_error": _null_if_nan(train_error),
        "validation_loss": _null_if_nan(validation_loss),
        "validation_error": _null_if_nan(validation_error),
        "learning_rate": _null_if_nan(learning_rate),
        "seconds": _null_if_nan(seconds),
        "images": images,
        "worker": lease.worker,
        "attempt": lease.attempt,
        "of_trial": lease.trial_id,
        "this_epoch": epoch,
        "finite_loss": validation_loss if math.isfinite(validation_loss) else None,
    }

    def attempt() -> None:
        with transaction(db, hasty=True) as connection:
            fence(connection, lease)
            report = _report(connection.dialect.name)
            if connection.execute(report, row).rowcount == 1:
                db.optuna.set_trial_intermediate_value(lease.trial_id, epoch, validation_loss)
                note_progress(connection, lease)

    with_retry(db, attempt)


_mine, _others = epochs.alias("mine"), epochs.alias("others")
# The index over study, epoch and loss holds all that it reads of the others.
_standing = (
    select(
        _mine.c.best_validation_loss,
        func.count(_others.c.best_validation_loss),
        func.count(
            case((_others.c.best_validation_loss < _mine.c.best_validation_loss, literal(1)))
        ),
    )
    .select_from(_mine)
    .outerjoin(
        _others,
        and_(
            _others.c.study_id == _mine.c.study_id,
            _others.c.epoch == _mine.c.epoch,
            _others.c.trial_id != _mine.c.trial_id,
        ),
    )
    .where(_mine.c.trial_id == bindparam("of_trial"), _mine.c.epoch == bindparam("this_epoch"))
    .group_by(_mine.c.best_validation_loss)
)


@cache
def _report(dialect: str) -> Insert:
    """Inserts a row of `epochs` unless it is there."""
    earlier = select(epochs.c.best_validation_loss.label("loss")).where(
        epochs.c.trial_id == bindparam("of_trial"), epochs.c.epoch < bindparam("this_epoch")
    )
    own = select(bindparam("finite_loss", type_=Double).label("loss"))
    losses = union_all(earlier, own).subquery()
    best = select(func.min(losses.c.loss)).scalar_subquery()
    return (
        insert_for(dialect, epochs)
        .values(best_validation_loss=best, reported_at=DatabaseClock())
        .on_conflict_do_nothing(index_elements=["trial_id", "epoch"])
        .execution_options(preserve_rowcount=True)
    )


def epochs_of(db: Database, study_id: int) -> list[EpochRow]:
    """All reports of a study, by trial number and epoch.

    Raises:
        StorageError: the database stayed away.
    """
    return _epochs_where(db, epochs.c.study_id == study_id)


def epochs_of_trials(db: Database, trial_ids: Sequence[int]) -> list[EpochRow]:
    """All reports of some trials, by epoch.

    Raises:
        StorageError: the database stayed away.
    """
    found: list[EpochRow] = []
    for start in range(0, len(trial_ids), AT_ONCE):
        found += _epochs_where(db, epochs.c.trial_id.in_(trial_ids[start : start + AT_ONCE]))
    return found


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
            return [_epoch_row(row) for row in connection.execute(query)]

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


def standing_at(db: Database, trial_id: int, epoch: int) -> Standing | None:
    """How a trial stood among all of its study when it had trained so far; None: it has not.

    Raises:
        StorageError: the database stayed away.
    """

    def attempt() -> Standing | None:
        with snapshot(db) as connection:
            row = connection.execute(
                _standing, {"of_trial": trial_id, "this_epoch": epoch}
            ).one_or_none()
        if row is None:
            return None
        loss, rivals, better = row
        return Standing(loss=math.nan if loss is None else loss, rivals=rivals, better=better)

    return with_retry(db, attempt)


def best_epoch(rows: Iterable[EpochRow]) -> EpochRow | None:
    """The finished epoch with the lowest validation loss; None where there is none."""
    finite = [row for row in rows if row.epoch > 0 and math.isfinite(row.validation_loss)]
    return min(finite, key=lambda row: row.validation_loss, default=None)


def add_result(
    db: Database,
    *,
    study_name: str,
    trial_number: int,
    seeds: Sequence[int],
    result_id: str | None = None,
    study_id: int | None = None,
) -> str:
    """Record that the test set is about to be opened; returns the id for `complete_result`.

    Before and not after: a process that dies while it scores has seen the test set, too.

    Args:
        result_id: at most 32 characters; one that is on record already changes nothing.
        study_id: to be locked meanwhile, so that `results_of` keeps its order.

    Raises:
        StorageError: the database stayed away.
    """
    result_id = result_id or uuid.uuid4().hex

    def attempt() -> None:
        with transaction(db, study_id=study_id) as connection:
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
    """Add what the scoring gave, anything that JSON can hold; what was added first stands.

    Raises:
        StorageError: the database stayed away.
    """

    def attempt() -> None:
        with db.engine.begin() as connection:
            mine = update(results).where(
                results.c.result_id == result_id, results.c.figures.is_(null())
            )
            connection.execute(mine.values(figures=dict(figures)))

    with_retry(db, attempt)


def results_of(db: Database, study_name: str) -> list[ResultRow]:
    """Every opening of the test set under that study's name, the earliest first.

    Raises:
        StorageError: the database stayed away.
    """
    query = select(results).where(results.c.study_name == study_name)
    query = query.order_by(results.c.opened_at, results.c.result_id)

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


def _epoch_row(row: Iterable[Any]) -> EpochRow:
    values: Iterable[Any] = (math.nan if value is None else value for value in row)
    named: dict[str, Any] = dict(zip(EpochRow.__dataclass_fields__, values, strict=True))
    return EpochRow(**named)


def _null_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
