"""Optuna's trials, read from its tables in two statements, or so many for each 500."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import (
    Connection,
    Double,
    Integer,
    Row,
    Select,
    String,
    Table,
    bindparam,
    cast,
    literal_column,
    null,
    select,
    union_all,
)

from search.store.tables import AT_ONCE

TABLES: Mapping[str, Table] = models.BaseModel.metadata.tables
TRIALS = TABLES["trials"]
_FEW = 100  # trials that are asked for by their ids, and not by a range

_newer = (
    select(TRIALS)
    .where(
        TRIALS.c.study_id == bindparam("study_id"),
        TRIALS.c.trial_id > bindparam("than"),
    )
    .order_by(TRIALS.c.trial_id)
)
_by_id = (
    select(TRIALS)
    .where(TRIALS.c.trial_id.in_(bindparam("trial_ids", expanding=True)))
    .order_by(TRIALS.c.trial_id)
)

# What belongs to a trial lies in five tables. They are read as one, with the columns
# `table`, `trial_id`, `row_id` (in the order of writing), `place`, `name`, `number` and `word`.
_PARAM, _VALUE, _USER, _SYSTEM, _REPORT = range(5)


def _part(index: int, table: Table, **columns: str) -> Select[Any]:
    types = {"place": Integer, "name": String, "number": Double, "word": String}
    (row_id,) = table.primary_key
    return select(
        literal_column(str(index)).label("table"),
        table.c.trial_id,
        row_id.label("row_id"),
        *(
            cast(table.c[columns[name]] if name in columns else null(), kind).label(name)
            for name, kind in types.items()
        ),
    )


_parts = union_all(
    _part(
        _PARAM,
        TABLES["trial_params"],
        name="param_name",
        number="param_value",
        word="distribution_json",
    ),
    _part(_VALUE, TABLES["trial_values"], place="objective", number="value", word="value_type"),
    _part(_USER, TABLES["trial_user_attributes"], name="key", word="value_json"),
    _part(_SYSTEM, TABLES["trial_system_attributes"], name="key", word="value_json"),
    _part(
        _REPORT,
        TABLES["trial_intermediate_values"],
        place="step",
        number="intermediate_value",
        word="intermediate_value_type",
    ),
).subquery()
_parts_of_few = (
    select(_parts)
    .where(_parts.c.trial_id.in_(bindparam("trial_ids", expanding=True)))
    .order_by(_parts.c.table, _parts.c.place, _parts.c.row_id)
)
_parts_of_many = (
    select(_parts)
    .where(_parts.c.trial_id.between(bindparam("first"), bindparam("last")))
    .order_by(_parts.c.table, _parts.c.place, _parts.c.row_id)
)


def newer_trials(connection: Connection, study_id: int, than: int) -> list[FrozenTrial]:
    """A study's trials with greater ids, in their order."""
    found = connection.execute(_newer, {"study_id": study_id, "than": than}).all()
    if len(found) <= _FEW:
        return _with_parts(connection, found)
    # Among them perhaps other studies' trials.
    between = {"first": found[0].trial_id, "last": found[-1].trial_id}
    return _joined(found, connection.execute(_parts_of_many, between))


def trials_by_id(connection: Connection, trial_ids: Sequence[int]) -> list[FrozenTrial]:
    """Those of the trials that there are; in the order of their ids, if that is how they come."""
    read = []
    for start in range(0, len(trial_ids), AT_ONCE):
        some = trial_ids[start : start + AT_ONCE]
        read += _with_parts(connection, connection.execute(_by_id, {"trial_ids": some}).all())
    return read


def _with_parts(connection: Connection, found: Sequence[Row[Any]]) -> list[FrozenTrial]:
    if not found:
        return []
    trial_ids = [row.trial_id for row in found]
    return _joined(found, connection.execute(_parts_of_few, {"trial_ids": trial_ids}))


def _joined(found: Sequence[Row[Any]], parts: Iterable[Row[Any]]) -> list[FrozenTrial]:
    parts_of = defaultdict[int, tuple[list[Row[Any]], ...]](lambda: ([], [], [], [], []))
    for part in parts:
        parts_of[part.trial_id][part.table].append(part)
    return [_frozen(row, *parts_of[row.trial_id]) for row in found]


def _frozen(
    trial: Row[Any],
    params: Sequence[Row[Any]],
    values: Sequence[Row[Any]],
    user_attributes: Sequence[Row[Any]],
    system_attributes: Sequence[Row[Any]],
    reports: Sequence[Row[Any]],
) -> FrozenTrial:
    distributions = {row.name: _distribution(row.word) for row in params}
    return FrozenTrial(
        number=trial.number,
        state=trial.state,
        value=None,
        values=[_value(row) for row in values] or None,
        datetime_start=_local(trial.datetime_start),
        datetime_complete=_local(trial.datetime_complete),
        params={row.name: distributions[row.name].to_external_repr(row.number) for row in params},
        distributions=distributions,
        user_attrs={row.name: json.loads(row.word) for row in user_attributes},
        system_attrs={row.name: json.loads(row.word) for row in system_attributes},
        intermediate_values={row.place: _report(row) for row in reports},
        trial_id=trial.trial_id,
    )


def _value(row: Row[Any]) -> float:
    kind = models.TrialValueModel.TrialValueType[row.word]
    return models.TrialValueModel.stored_repr_to_value(row.number, kind)


def _report(row: Row[Any]) -> float:
    kind = models.TrialIntermediateValueModel.TrialIntermediateValueType[row.word]
    return models.TrialIntermediateValueModel.stored_repr_to_intermediate_value(row.number, kind)


@lru_cache(maxsize=1000)
def _distribution(written: str) -> BaseDistribution:
    """One object for all trials: nobody changes it, and reading it anew takes 20 times longer."""
    return json_to_distribution(written)


def _local(moment: datetime | None) -> datetime | None:
    """Stored as UTC, handed out as local time, both without saying so: Optuna's way."""
    return None if moment is None else moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
