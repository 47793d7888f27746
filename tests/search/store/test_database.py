"""Transactions that Optuna's storage joins, and outages that are outlasted."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy import event, exc, func, select, text
from sqlalchemy.orm import scoped_session

from search.store import StorageError, StudyGoneError
from search.store.database import Database, transaction, with_retry
from search.store.opening import open_database
from search.store.schema import studies, trials
from search.store.studies import StudyHandle

sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def count_trials(db: Database) -> int:
    with transaction(db, read_only=True) as connection:
        return connection.execute(select(func.count()).select_from(trials)).scalar_one()


def test_a_rollback_also_undoes_what_optuna_wrote(db: Database, study: StudyHandle) -> None:
    def cut_off() -> None:
        with study.transaction():
            trial = study.study.ask()
            trial.suggest_float("x", 0, 1)
            study.study.tell(trial, 1.0)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cut_off()
    assert count_trials(db) == 0
    with transaction(db):
        study.study.tell(study.study.ask(), 1.0)
    assert [trial.state for trial in study.study.trials] == [TrialState.COMPLETE]


def test_optunas_storage_uses_the_session_that_we_bind(db: Database) -> None:
    """The only internal of Optuna that `search.store.database` relies on.

    If this fails after an update of Optuna, a trial's claim and its lease are no longer committed
    together: look for what has replaced `RDBStorage.scoped_session`.
    """
    assert isinstance(db.optuna.scoped_session, scoped_session)
    statements: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    with transaction(db):
        backends = db.engine.pool.checkedout()  # type: ignore[attr-defined]
        optuna.create_study(study_name="joined", storage=db.optuna)
        assert db.engine.pool.checkedout() == backends == 1  # type: ignore[attr-defined]
    assert any(statement.startswith("INSERT INTO studies") for statement in statements)


def test_a_transaction_is_not_visible_before_its_end(db: Database, study: StudyHandle) -> None:
    with transaction(db):
        study.study.ask()
        assert count_trials(db) == 0  # and on SQLite, reading does not wait
        study.study.ask()  # joins the transaction as before
        assert count_trials(db) == 0
    assert count_trials(db) == 2


def test_study_lock_keeps_others_waiting(study: StudyHandle) -> None:
    order = []

    def other() -> None:
        with study.transaction():
            order.append("other")

    thread = threading.Thread(target=other)
    with study.transaction():
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def query(db: Database) -> None:
    with db.engine.begin() as connection:
        connection.execute(select(studies)).all()


@sqlite_only
def test_a_file_that_was_removed_is_not_created_again(db: Database, tmp_path: Path) -> None:
    db.close()  # so that it would have to be opened again
    (tmp_path / "studies.db").unlink()
    with pytest.raises(StudyGoneError, match="was removed or replaced"):
        with_retry(db, lambda: query(db))
    assert not (tmp_path / "studies.db").exists()


@sqlite_only
@pytest.mark.parametrize("leaving", [False, True])
def test_gives_up_on_a_lock(db: Database, tmp_path: Path, leaving: bool) -> None:
    started = time.monotonic()
    if leaving:
        threading.Timer(0.2, db.leaving.set).start()
    else:
        db.patience_seconds = 0.5
    with closing(sqlite3.connect(tmp_path / "studies.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another process keeps it locked; end that process"):
            with_retry(db, lambda: query(db))
    assert time.monotonic() - started < 4
    with_retry(db, lambda: query(db))


@sqlite_only
def test_full_disk(db: Database, study: StudyHandle) -> None:
    """SQLite's own limit gives the same error as a full disk; see also the fault tests."""
    db.patience_seconds = 0.2

    def limit(connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    event.listen(db.engine, "begin", limit)

    def write() -> None:
        with transaction(db):
            study.study.set_user_attr("small", "x")
            study.study.set_user_attr("large", "x" * 100_000)

    def overfill() -> None:
        with transaction(db):
            with pytest.raises(StorageInternalError):
                study.study.set_user_attr("large", "x" * 100_000)
            study.study.set_user_attr("afterwards", "x")

    for operation in (write, overfill):
        with pytest.raises(StorageError):
            with_retry(db, operation)
        assert study.study.user_attrs == {}  # though SQLite rolled back by itself
    event.remove(db.engine, "begin", limit)
    db.close()  # the limit belongs to the connection
    with_retry(db, write)
    assert set(study.study.user_attrs) == {"small", "large"}


def test_bugs_are_not_retried(db: Database) -> None:
    calls = []

    def operation() -> None:
        calls.append(1)
        with db.engine.begin() as connection:
            connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises((exc.ProgrammingError, StorageError)):
        with_retry(db, operation)
    assert len(calls) == 1


@pytest.mark.parametrize("content", [b"", b"not SQLite" * 2000])
def test_a_file_that_is_overwritten_in_place(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "studies.db"
    with closing(open_database(f"sqlite:///{path}")) as db:
        study = optuna.create_study(storage=db.optuna, study_name="s")
        trial = study.ask()
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(content)
        for _ in range(2):
            with pytest.raises(StorageError, match=r"the file is (damaged|not an SQLite)"):
                with_retry(db, lambda: study.tell(trial, 0.5))


def test_a_server_that_stays_unavailable(postgres: Any) -> None:
    with closing(open_database(postgres.new_database())) as db, ThreadPoolExecutor() as pool:
        db.patience_seconds = 0.3
        postgres.stop()
        try:
            with pytest.raises(StorageError, match=r"did not answer for \d s: .*resume with"):
                with_retry(db, lambda: query(db))
            with pytest.raises(StorageError, match="check the server and the URL"):
                open_database(db.url)
            opened = pool.submit(open_database, db.url, patient=True)
            assert not wait([opened], 0.5).done
        finally:
            postgres.start()
        with_retry(db, lambda: query(db))
        opened.result().close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_stopped_worker_does_not_keep_its_locks(db: Database) -> None:
    with db.engine.connect() as connection:
        assert connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == "30s"
        assert connection.scalar(text("SHOW lock_timeout")) == "30s"
