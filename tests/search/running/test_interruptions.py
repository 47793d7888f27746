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


def fresh_study(db: Database) -> StudyHandle:
    sampler = optuna.samplers.RandomSampler()
    return StudyHandle.of(db, optuna.create_study(storage=db.optuna, sampler=sampler))


class Countdown:
    """Goes off once, when it has been called `left` times before."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == -1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connection_lost_before_any_statement(
    db: Database,
    postgres: Any,
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int, int], int],
) -> None:
    # Optuna waits up to 2 s before it tries to create a trial on the lost connection again.
    monkeypatch.setattr("optuna.storages._rdb.storage.random.random", lambda: 0.0)
    goes_off = Countdown(-1)

    def before(_connection: Any, cursor: Any, *_arguments: Any) -> None:
        if goes_off():
            backend = cursor.connection.info.backend_pid
            postgres.execute(f"SELECT pg_terminate_backend({backend}, 5000)")

    event.listen(db.engine, "before_cursor_execute", before)
    for statements in count(step=times(7, 1)):
        study = fresh_study(db)
        goes_off = Countdown(statements)
        live(db, study)
        if goes_off.left >= 0:
            break
        check(db, study)
    assert statements > 30


def test_answer_to_any_commit_lost(db: Database) -> None:
    goes_off = Countdown(-1)
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
    for commits in count():
        study = fresh_study(db)
        goes_off = Countdown(commits)
        live(db, study)
        if goes_off.left >= 0:
            break
        check(db, study)
    assert commits > 4
