"""How connections behave: SQLite's one lock, PostgreSQL's limits, and the loss of either."""

import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, event, exc
from sqlalchemy.engine import ExceptionContext

from search.trials.outages import is_transient
from search.trials.storage import LOST, READ_ONLY, Database

# SQLite waits for its lock inside C, where no signal is handled: for a short while, repeatedly.
SQLITE: dict[str, Any] = {"connect_args": {"timeout": 1.0}}
_LOCK_SECONDS = 30.0  # in all; after that, Optuna's own calls give up and ours are retried

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
    """

    def connected(driver_connection: sqlite3.Connection, _record: Any) -> None:
        driver_connection.isolation_level = None  # Python's own, later BEGIN
        driver_connection.execute("PRAGMA synchronous = FULL")  # a commit outlives a power cut

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(READ_ONLY):
            connection.exec_driver_sql("BEGIN")
            return
        started = time.monotonic()
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                return
            except exc.OperationalError as error:
                waited = time.monotonic() - started
                if not is_transient(error) or waited >= min(_LOCK_SECONDS, db.patience_seconds):
                    raise

    def failed(context: ExceptionContext) -> None:
        # A full disk makes SQLite roll back by itself. What Optuna then tries on the connection
        # would be committed statement by statement, so it is treated like a lost one.
        connection = context.connection
        if connection is not None and connection.in_transaction() and not connection.invalidated:
            driver_connection = connection.connection.dbapi_connection
            assert isinstance(driver_connection, sqlite3.Connection)
            if not driver_connection.in_transaction:
                context.is_disconnect = True
                context.invalidate_pool_on_disconnect = False

    event.listen(db.engine, "connect", connected)
    event.listen(db.engine, "begin", begin)
    event.listen(db.engine, "handle_error", failed)
    event.listen(db.engine, "handle_error", _note_loss)


def set_up_postgresql(db: Database) -> None:
    """Limits how long a session may hold locks, or wait for them."""

    def connected(driver_connection: Any, _record: Any) -> None:
        driver_connection.execute(_SESSION)
        driver_connection.commit()

    event.listen(db.engine, "connect", connected)
    event.listen(db.engine, "handle_error", _note_loss)


def _note_loss(context: ExceptionContext) -> None:
    """Keep the first reason: what is tried afterwards only says that the connection is gone."""
    connection, error = context.connection, context.sqlalchemy_exception
    if connection is not None and context.is_disconnect and error is not None:
        connection.execution_options(**{LOST: error})
