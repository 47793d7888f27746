"""The statements and the commits of a trial's life, each cut off in turn."""

import sqlite3
from collections.abc import Callable
from itertools import count
from typing import Any

import optuna
import psycopg
import pytest
from optuna.trial import TrialState
from sqlalchemy import event

from search.store.claims import claim
from search.store.database import Database
from search.store.leases import finish, sample
from search.store.records import epochs_of
from search.store.studies import StudyHandle
from tests.search.worker_processes import report
from tests.search.workplaces import take

ATTRIBUTES = {"accuracy": 0.5}


def live(db: Database, study: StudyHandle) -> None:
    """A trial from its claim to its end."""
    lease = take(study, total=1)
    x = sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1))
    report(db, lease, 1, x)
    finish(study, lease, state=TrialState.COMPLETE, value=x, attributes=ATTRIBUTES)
    assert claim(study, total=1) == "done"


def check(db: Database, study: StudyHandle) -> None:
    """One trial, whole, as if nothing had happened."""
    (trial,) = db.optuna.get_all_trials(study.study_id)
    assert (trial.number, trial.state) == (0, TrialState.COMPLETE)
    assert trial.user_attrs == ATTRIBUTES
    assert trial.intermediate_values == {1: trial.value} == {1: trial.params["x"]}
    (row,) = epochs_of(db, study.study_id)
    assert (row.validation_loss, row.attempt) == (trial.value, 1)
    db.optuna.delete_study(study.study_id)


class Countdown:
    """Goes off once, when it has been called `left` times before."""

    left = -1

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == -1


def cut_off_each(db: Database, goes_off: Countdown, step: int = 1) -> int:
    """Live and check trials, each cut off later than the one before. Returns the last place."""
    for place in count(step=step):
        sampler = optuna.samplers.RandomSampler()
        study = StudyHandle.of(db, optuna.create_study(storage=db.optuna, sampler=sampler))
        goes_off.left = place
        live(db, study)
        if goes_off.left >= 0:
            return place
        check(db, study)
    raise AssertionError


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connection_lost_before_any_statement(
    db: Database,
    postgres: Any,
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int, int], int],
) -> None:
    # Optuna waits up to 2 s before it tries to create a trial on the lost connection again.
    monkeypatch.setattr("optuna.storages._rdb.storage.random.random", lambda: 0.0)
    goes_off = Countdown()

    def before(_connection: Any, cursor: Any, *_arguments: Any) -> None:
        if goes_off():
            backend = cursor.connection.info.backend_pid
            postgres.execute(f"SELECT pg_terminate_backend({backend}, 5000)")

    event.listen(db.engine, "before_cursor_execute", before)
    assert cut_off_each(db, goes_off, step=times(7, 1)) > 30


def test_answer_to_any_commit_lost(db: Database) -> None:
    goes_off = Countdown()
    commit = db.engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        commit(connection)
        if not goes_off():
            return
        if db.engine.dialect.name == "postgresql":
            connection.dbapi_connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    db.engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
    assert cut_off_each(db, goes_off) > 4
