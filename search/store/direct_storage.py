"""Optuna's storage with the calls of a trial's life as single statements.

Optuna's own go through its object-relational mapper, in a session and a savepoint each: that was
most of what a trial cost beside its training. What is stored and what is read is the same: a test
holds the two against each other. Whatever else Optuna does (studies, queued trials, what its
dashboard changes) is its own code.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
)
from optuna.storages import RDBStorage, _rdb
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Insert, bindparam, insert, or_, select, update

from search.store.frozen_trials import TABLES, TRIALS, newer_trials, trials_by_id
from search.store.storage import READ_ONLY
from search.store.tables import insert_for

SCHEMA = "v3.2.0.a"  # of Optuna's tables, as they are written here

_STUDIES = TABLES["studies"]
# Each of these rows is told by its trial and one column; params alone are never overwritten.
_KEYS = {
    "trial_params": "param_name",
    "trial_values": "objective",
    "trial_user_attributes": "key",
    "trial_system_attributes": "key",
    "trial_intermediate_values": "step",
}
# Not `in_`, whose list SQLAlchemy writes into the statement anew at each execution.
_OPEN = or_(*(TRIALS.c.state == state for state in TrialState if not state.is_finished()))

_lock_study = (
    select(_STUDIES.c.study_id)
    .where(_STUDIES.c.study_id == bindparam("study_id"))
    .with_for_update()
)
_latest_number = (
    select(TRIALS.c.number)
    .where(TRIALS.c.study_id == bindparam("study_id"))
    .order_by(TRIALS.c.trial_id.desc())
    .limit(1)
)
_begin = insert(TRIALS)
_end = (
    update(TRIALS)
    .where(TRIALS.c.trial_id == bindparam("of_trial"), _OPEN)
    .values(state=bindparam("ended_as"), datetime_complete=bindparam("ended_at"))
)
_state_of = select(TRIALS.c.state).where(TRIALS.c.trial_id == bindparam("of_trial"))


@cache
def _put(dialect: str, table_name: str) -> Insert:
    """Inserts a row or overwrites it, if its trial has not ended; else does nothing."""
    table, key = TABLES[table_name], _KEYS[table_name]
    values = [column.name for column in table.c if column.name not in table.primary_key]
    values.remove("trial_id")
    row = select(
        TRIALS.c.trial_id, *(bindparam(f"new_{name}", type_=table.c[name].type) for name in values)
    ).where(TRIALS.c.trial_id == bindparam("of_trial"), _OPEN)
    statement = insert_for(dialect, table).from_select(["trial_id", *values], row)
    statement = statement.execution_options(preserve_rowcount=True)
    if table_name == "trial_params":
        return statement.on_conflict_do_nothing(index_elements=["trial_id", key])
    overwritten = {name: statement.excluded[name] for name in values if name != key}
    return statement.on_conflict_do_update(index_elements=["trial_id", key], set_=overwritten)


def storage_class() -> type[RDBStorage]:
    """What opens a database: Optuna's own class where its tables are not those known here."""
    scripts = ScriptDirectory(Path(_rdb.__file__).parent / "alembic")
    return DirectStorage if scripts.get_current_head() == SCHEMA else RDBStorage


class DirectStorage(RDBStorage):
    """Joins the transaction of `search.store.storage.transaction`, where one is under way.

    Raises what Optuna's own storage does, but errors of the database as they are.
    """

    @contextmanager
    def _connection(self, *, read_only: bool = False) -> Iterator[Connection]:
        sessions = self.scoped_session
        joined = sessions().bind if sessions.registry.has() else None
        if isinstance(joined, Connection):
            yield joined
            return
        with self.engine.connect() as connection:
            if read_only:  # else as the engine has it, see `forbid_writing`
                connection = connection.execution_options(**{READ_ONLY: True})
            with connection.begin():
                yield connection

    def _put(
        self, connection: Connection, table_name: str, trial_id: int, *rows: Mapping[str, Any]
    ) -> None:
        statement = _put(self.engine.dialect.name, table_name)
        new = [{f"new_{name}": value for name, value in row.items()} for row in rows]
        put = connection.execute(statement, [{"of_trial": trial_id, **row} for row in new])
        if put.rowcount == 0:
            self._refuse_if_ended(connection, trial_id)

    def _refuse_if_ended(self, connection: Connection, trial_id: int) -> None:
        state = connection.scalar(_state_of, {"of_trial": trial_id})
        if state is None:
            raise KeyError(models.NOT_FOUND_MSG)
        self.check_trial_is_updatable(trial_id, state)

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is not None:
            return super()._create_new_trial(study_id, template_trial)
        with self._connection() as connection:
            if connection.scalar(_lock_study, {"study_id": study_id}) is None:
                raise KeyError(models.NOT_FOUND_MSG)
            latest = connection.scalar(_latest_number, {"study_id": study_id})
            started = datetime.now()
            number = 0 if latest is None else latest + 1
            row = {
                "number": number,
                "study_id": study_id,
                "state": TrialState.RUNNING,
                "datetime_start": _as_stored(started),
            }
            key = connection.execute(_begin, row).inserted_primary_key
        assert key is not None
        return FrozenTrial(
            number=number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=started,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=key[0],
        )

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if previous_distribution is None:  # the first that this process writes: Optuna looks it up
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, None)
            return
        check_distribution_compatibility(previous_distribution, distribution)
        with self._connection() as connection:
            self._put(
                connection,
                "trial_params",
                trial_id,
                {
                    "param_name": param_name,
                    "param_value": param_value_internal,
                    "distribution_json": distribution_to_json(distribution),
                },
            )

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        if not state.is_finished():
            return super().set_trial_state_values(trial_id, state, values)
        with self._connection() as connection:
            for objective, value in enumerate(values or ()):
                stored, kind = models.TrialValueModel.value_to_stored_repr(value)
                self._put(
                    connection,
                    "trial_values",
                    trial_id,
                    {"objective": objective, "value": stored, "value_type": kind},
                )
            ended = connection.execute(
                _end,
                {
                    "of_trial": trial_id,
                    "ended_as": state,
                    "ended_at": _as_stored(datetime.now()),
                },
            )
            if ended.rowcount == 0:
                self._refuse_if_ended(connection, trial_id)
        return True

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(
            intermediate_value
        )
        with self._connection() as connection:
            self._put(
                connection,
                "trial_intermediate_values",
                trial_id,
                {
                    "step": step,
                    "intermediate_value": stored,
                    "intermediate_value_type": kind,
                },
            )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._put_attributes("trial_user_attributes", trial_id, {key: value})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._put_attributes("trial_system_attributes", trial_id, {key: value})

    def _put_attributes(
        self, table_name: str, trial_id: int, attributes: Mapping[str, Any]
    ) -> None:
        rows = [{"key": key, "value_json": json.dumps(it)} for key, it in attributes.items()]
        if rows:
            with self._connection() as connection:
                self._put(connection, table_name, trial_id, *rows)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._connection(read_only=True) as connection:
            found = trials_by_id(connection, [trial_id])
        if not found:
            raise KeyError(models.NOT_FOUND_MSG)
        return found[0]

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        older = sorted(number for number in included_trial_ids if number <= trial_id_greater_than)
        with self._connection(read_only=True) as connection:
            found = trials_by_id(connection, older) if older else []
            found += newer_trials(connection, study_id, than=trial_id_greater_than)
            if not found and connection.scalar(_lock_study, {"study_id": study_id}) is None:
                raise KeyError(models.NOT_FOUND_MSG)
        return found if states is None else [trial for trial in found if trial.state in states]


def set_attributes(
    storage: RDBStorage, trial_id: int, *, user: Mapping[str, Any], system: Mapping[str, Any]
) -> None:
    """A trial's attributes of both kinds; in our own storage a statement a kind.

    Raises:
        KeyError: there is no such trial.
        UpdateFinishedTrialError: it has ended.
    """
    if isinstance(storage, DirectStorage):
        storage._put_attributes("trial_user_attributes", trial_id, user)
        storage._put_attributes("trial_system_attributes", trial_id, system)
        return
    for key, value in user.items():
        storage.set_trial_user_attr(trial_id, key, value)
    for key, value in system.items():
        storage.set_trial_system_attr(trial_id, key, value)


def _as_stored(moment: datetime) -> datetime:
    """Local time without saying so, to UTC without saying so: Optuna's way."""
    return moment.astimezone(UTC).replace(tzinfo=None)
