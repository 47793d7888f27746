"""What happened: every epoch of every trial, every test evaluation, and Optuna's trials."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import json_to_distribution
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, func, insert, select, update

from search.spec.objectives import OBJECTIVES, RAW_LOSS
from search.store.database import Database, read, write
from search.store.leases import Lease, fence
from search.store.schema import (
    SPEC,
    DatabaseClock,
    epochs,
    leases,
    numbered,
    results,
    studies,
    study_user_attributes,
    trial_intermediate_values,
    trial_params,
    trial_user_attributes,
    trials,
)
from search.store.studies import StudyHandle
from search.training.epoch import Epoch


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRow(Epoch):
    """A recorded epoch; missing measurements are NaN.

    Attributes:
        value: what the study minimises, see `search.spec.objectives`.
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
        opened_at: when it was started, by the database's clock, UTC.
        figures: its metrics; None if it did not finish.
        is_ours: False if the trial belonged to an earlier study of the same name.
    """

    result_id: str
    study_name: str
    trial_number: int
    opened_at: datetime
    seeds: tuple[int, ...]
    figures: Mapping[str, Any] | None
    is_ours: bool = True


_distribution = lru_cache(maxsize=1000)(json_to_distribution)


def record_epoch(db: Database, lease: Lease, epoch: Epoch, value: float) -> None:
    """Report an epoch to our table and to Optuna (its value at step `epoch`) together.

    When it returns, no kill can undo the report. The first report of an epoch stands: later ones,
    of a trial that had to start over, change nothing. Raises `LostLeaseError`, see `fence`.

    Holders that vanished earlier no longer count if the epoch is new, or if it is a whole epoch,
    which has a checkpoint, and later than all that were such progress since the trial began or was
    continued. So each epoch excuses them once, and a trial that kills its workers still fails.
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

    whole = sa.case((epochs.c.epoch > 0, epochs.c.best_validation_loss))  # see `best_epoch`
    earlier = select(func.max(epochs.c.epoch), func.min(whole)).where(
        epochs.c.trial_id == lease.trial_id, epochs.c.epoch <= epoch.epoch
    )

    def record(connection: Connection) -> None:
        fence(connection, lease)
        latest, lowest = connection.execute(earlier).one()
        is_new = latest != epoch.epoch
        if lease.attempt > 1 and (is_new or epoch.epoch > 0):
            further = sa.func.coalesce(leases.c.repeated, -1) < epoch.epoch
            progress = {"abandonments": 0, "repeated": epoch.epoch}
            connection.execute(update(leases).where(lease.own, further).values(progress))
        if not is_new:
            return
        finite = [it for it in (lowest, value) if it is not None and math.isfinite(it)]
        best = min(finite, default=None)
        connection.execute(insert(epochs).values(**row, best_validation_loss=best))
        db.optuna.set_trial_intermediate_value(lease.trial_id, epoch.epoch, value)

    write(db, record)


def epochs_of(
    db: Database,
    study_id: int,
    *,
    numbers: Sequence[int] | None = None,
    objective: str = RAW_LOSS,
) -> list[EpochRow]:
    """Reports of a study by trial number and epoch, of all trials or of those `numbered` so.

    The study's objective decides the rows' values.
    """
    columns = [epochs.c[item.name] for item in fields(EpochRow) if item.name != "value"]
    query = select(*columns).order_by(epochs.c.trial_number, epochs.c.epoch)
    if numbers is None:
        query = query.where(epochs.c.study_id == study_id)
    else:  # by key only: asked for the study, too, SQLite would scan all its epochs
        wanted = (trials.c.study_id == study_id, numbered(numbers))
        query = query.where(epochs.c.trial_id.in_(select(trials.c.trial_id).where(*wanted)))
    rows = []
    for found in read(db, lambda connection: connection.execute(query).mappings().all()):
        values: dict[str, Any] = {k: math.nan if v is None else v for k, v in found.items()}
        row = EpochRow(**{**values, "metrics": found["metrics"] or {}, "value": math.nan})
        rows.append(replace(row, value=OBJECTIVES[objective].of(row)))
    return rows


def count_reports(db: Database, study_id: int) -> int:
    """How many epochs of a study's trials have been reported so far."""
    query = select(func.count()).where(epochs.c.study_id == study_id)
    return read(db, lambda connection: connection.execute(query).scalar_one())


def best_epoch(rows: Iterable[EpochRow]) -> EpochRow | None:
    """The finished epoch with the lowest value, of several that with the lowest raw loss; None if
    there is none."""
    finite = [row for row in rows if row.epoch > 0 and math.isfinite(row.value)]
    return min(finite, key=lambda row: (row.value, row.validation_loss), default=None)


def require_recordable(study: StudyHandle) -> None:
    """Raises StorageError if test evaluations of the study cannot be recorded; changes nothing."""
    columns = [column.name for column in results.c]
    add = insert(results).from_select(columns, select(results).where(sa.false()))
    change = update(results).where(sa.false()).values(figures=sa.null())
    study.write(lambda connection: [connection.execute(it) for it in (add, change)])


def add_result(
    study: StudyHandle, *, trial_number: int, seeds: Sequence[int], result_id: str
) -> None:
    """Record that a test evaluation is about to start.

    Before, not after: a process that dies while scoring has seen the test set, too. An id (at most
    32 characters) that is already on record changes nothing, except that a record of an earlier
    study of the same name becomes this study's.
    """

    def add(connection: Connection) -> None:
        mine = {"trial_number": trial_number, "identity": study.identity}
        of_it = results.c.result_id == result_id
        there = connection.execute(select(results.c.identity).where(of_it)).first()
        if there is not None and there.identity not in (None, study.identity):
            connection.execute(update(results).where(of_it).values(mine))
        elif there is None:
            of_name = results.c.study_name == study.name
            latest = connection.scalar(select(func.max(results.c.opened_at)).where(of_name)) or 0.0
            now, after = DatabaseClock(), latest + 0.001  # if the clock was set back meanwhile
            row = {"result_id": result_id, "study_name": study.name, "seeds": list(seeds), **mine}
            opened_at = sa.case((now > after, now), else_=after)
            connection.execute(insert(results).values(**row, opened_at=opened_at))

    study.write(add)  # under the study's lock, so that `results_of` keeps its order


def complete_result(db: Database, result_id: str, figures: Mapping[str, Any]) -> None:
    """Add the evaluation's result, anything that JSON can hold; the first one added stands."""
    mine = (results.c.result_id == result_id, results.c.figures.is_(sa.null()))
    added = update(results).where(*mine).values(figures=dict(figures))
    write(db, lambda connection: connection.execute(added))


def results_of(study: StudyHandle) -> list[ResultRow]:
    """Every test evaluation under the study's name, the earliest first."""
    of_name = select(results).where(results.c.study_name == study.name)
    query = of_name.order_by(results.c.opened_at, results.c.result_id)
    rows = []
    for found in read(study.db, lambda connection: connection.execute(query).mappings().all()):
        values = {**found, "opened_at": datetime.fromtimestamp(found["opened_at"], UTC)}
        is_ours = values.pop("identity") in (None, study.identity)
        rows.append(ResultRow(**{**values, "seeds": tuple(found["seeds"]), "is_ours": is_ours}))
    return rows


def all_study_names(db: Database) -> list[str]:
    """The names of all studies that this project made, whether or not they can be read; sorted."""
    of_study = study_user_attributes.c.study_id == studies.c.study_id
    ours = select(studies.c.study_name).join(study_user_attributes, of_study)
    ours = ours.where(study_user_attributes.c.key == SPEC)
    return sorted(read(db, lambda connection: connection.scalars(ours).all()))


def read_trials(connection: Connection, condition: sa.ColumnElement[bool]) -> list[FrozenTrial]:
    """The trials that meet a condition on `schema.trials`, by number, read from the tables.

    Optuna itself takes half a millisecond and 25 kB more for each, and caches for good those that
    it has seen ended. Values and system attributes are left out; a report that is not finite is
    NaN.
    """
    columns = ("trial_id", "number", "state", "datetime_start", "datetime_complete")
    query = select(*(trials.c[name] for name in columns)).where(condition)
    found = connection.execute(query.order_by(trials.c.number)).all()
    params, distributions, attributes, reports = (defaultdict[int, Any](dict) for _ in range(4))
    for row in connection.execute(_of(trial_params, condition).order_by(trial_params.c.param_id)):
        distribution = _distribution(row.distribution_json)
        params[row.trial_id][row.param_name] = distribution.to_external_repr(row.param_value)
        distributions[row.trial_id][row.param_name] = distribution
    for row in connection.execute(_of(trial_user_attributes, condition)):
        attributes[row.trial_id][row.key] = json.loads(row.value_json)
    for row in connection.execute(_of(trial_intermediate_values, condition)):
        value = row.intermediate_value
        reports[row.trial_id][row.step] = math.nan if value is None else value
    return [
        FrozenTrial(
            trial_id=row.trial_id,
            number=row.number,
            state=row.state,
            value=None,
            datetime_start=row.datetime_start,
            datetime_complete=row.datetime_complete,
            params=params[row.trial_id],
            distributions=distributions[row.trial_id],
            user_attrs=attributes[row.trial_id],
            system_attrs={},
            intermediate_values=dict(sorted(reports[row.trial_id].items())),
        )
        for row in found
    ]


def _of(table: sa.TableClause, condition: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The table's rows for the trials that meet the condition."""
    return select(table).join(trials, trials.c.trial_id == table.c.trial_id).where(condition)
