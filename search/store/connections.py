"""How connections behave: SQLite's one lock, PostgreSQL's limits, and the loss of either."""

import math
import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, exc
from sqlalchemy.engine import ExceptionContext

from search.store.outages import is_transient
from search.store.storage import HASTY, LOST, READ_ONLY, Database, DatabaseGoneError

# SQLite waits for its lock inside C, where no signal is handled: for a short while, repeatedly.
SQLITE: dict[str, Any] = {"connect_args": {"timeout": 1.0}}
_LOCK_SECONDS = 30.0  # in all; after that, Optuna's own calls give up and ours are retried
_UNSYNCED_SECONDS = 1.0  # for so long a hasty commit need not be on disk, see `transaction`
_SYNCHRONOUS, _CHANGES = "synchronous", "changes"  # of a driver connection, when last looked at

POSTGRESQL: dict[str, Any] = {
    "pool_pre_ping": True,
    "pool_size": 3,
    "connect_args": {
        "connect_timeout": 5,
        "application_name": "cnn-search",
        # A server that vanished without a word is noticed within a minute, not within two hours.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    },
}
# A worker stopped in the middle of a transaction must not hold its locks against all the others.
_SESSION = "SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '30s'"


def set_up_sqlite(db: Database) -> None:
    """Every transaction takes the one write lock as it begins.

    There are no row locks: of two that read and then write, one would fail, or undo the other.

    A commit is in the write-ahead log when it returns, which no kill of a process undoes; unless it
    is a hasty one, it is on disk, with all before it. So a power cut costs a running trial at most
    what it reported within a second of another commit, and nothing else.

    A file that was removed or replaced is noticed as a transaction begins: what is open would go on
    to take writes that nobody will ever read, and new connections would make or open another file.
    """
    path = db.engine.url.database
    opened = _file(path)
    synced_at = -math.inf  # by time.monotonic()

    def check_file(*_: Any) -> None:
        if _file(path) != opened:
            raise DatabaseGoneError(
                f"{db.url}: the file was removed or replaced while this ran, and nothing more can "
                "be stored; put it back, or run the command again to start anew"
            )

    def connected(driver_connection: sqlite3.Connection, _record: Any) -> None:
        driver_connection.isolation_level = None  # Python's own, later BEGIN
        driver_connection.execute("PRAGMA synchronous = FULL")  # a commit outlives a power cut

    def set_synchronous(connection: Connection, mode: str) -> None:
        if connection.info.get(_SYNCHRONOUS, "FULL") != mode:  # it is the driver connection's
            connection.exec_driver_sql(f"PRAGMA synchronous = {mode}")
            connection.info[_SYNCHRONOUS] = mode

    def begin(connection: Connection) -> None:
        check_file()
        options = connection.get_execution_options()
        if options.get(READ_ONLY):
            connection.exec_driver_sql("BEGIN")
            return
        spared = options.get(HASTY) and time.monotonic() - synced_at < _UNSYNCED_SECONDS
        set_synchronous(connection, "NORMAL" if spared else "FULL")
        started = time.monotonic()
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except exc.OperationalError as error:
                waited = time.monotonic() - started
                if not is_transient(error) or waited >= min(_LOCK_SECONDS, db.patience_seconds):
                    raise

    def commit(connection: Connection) -> None:
        nonlocal synced_at
        changes = _driver_connection(connection).total_changes
        if changes == connection.info.get(_CHANGES):
            return  # SQLite does nothing then
        connection.info[_CHANGES] = changes
        if connection.info.get(_SYNCHRONOUS, "FULL") == "FULL":
            synced_at = time.monotonic()

    def failed(context: ExceptionContext) -> None:
        # A full disk makes SQLite roll back by itself. What Optuna then tries on the connection
        # would be committed statement by statement, so it is treated like a lost one.
        connection = context.connection
        if connection is None or not connection.in_transaction() or connection.invalidated:
            return
        if not _driver_connection(connection).in_transaction:
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = False

    event.listen(db.engine, "do_connect", check_file)
    event.listen(db.engine, "connect", connected)
    event.listen(db.engine, "begin", begin)
    event.listen(db.engine, "commit", commit)
    event.listen(db.engine, "handle_error", failed)
    event.listen(db.engine, "handle_error", _note_loss)


def _file(path: str | None) -> tuple[int, int] | None:
    """What tells the file from every other, whatever its name; None where there is none."""
    try:
        found = Path(path or "").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _driver_connection(connection: Connection) -> sqlite3.Connection:
    driver_connection = connection.connection.dbapi_connection
    assert isinstance(driver_connection, sqlite3.Connection)
    return driver_connection


def set_up_postgresql(db: Database) -> None:
    """Limits how long a session may hold locks, or wait for them."""

    def connected(driver_connection: Any, _record: Any) -> None:
        driver_connection.execute(_SESSION)
        driver_connection.commit()

    event.listen(db.engine, "connect", connected)
    event.listen(db.engine, "handle_error", _note_loss)


def forbid_writing(db: Database) -> None:
    """From now on nothing can be changed through it, and on SQLite no writer is held up by it."""
    sqlite = db.engine.dialect.name == "sqlite"

    def connected(driver_connection: Any, _record: Any) -> None:
        if sqlite:
            driver_connection.execute("PRAGMA query_only = ON")
        else:
            driver_connection.execute("SET default_transaction_read_only = on")
            driver_connection.commit()

    db.close()  # the connections made before
    db.engine.update_execution_options(**{READ_ONLY: True})
    event.listen(db.engine, "connect", connected)


def _note_loss(context: ExceptionContext) -> None:
    """Keep the first reason: what is tried afterwards only says that the connection is gone."""
    connection, error = context.connection, context.sqlalchemy_exception
    if connection is not None and context.is_disconnect and error is not None:
        connection.execution_options(**{LOST: error})
