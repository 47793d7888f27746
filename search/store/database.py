"""An open database: its transactions, shared with Optuna, and retries during outages.

The sessions of Optuna's `RDBStorage` come from its `scoped_session`, which its documentation does
not promise, so that they can be bound to a connection of ours. Everything in this package that uses
the database raises `StorageError` if it was unavailable for longer than `patience_seconds`.
"""

import logging
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine, exc

from search.store import STORAGE_VARIABLE, OutageError, StorageError

T = TypeVar("T")
_log = logging.getLogger(__name__)

JITTER = random.Random()  # its own: the training watches the global one while it records a graph
PATIENCE_SECONDS = 75.0  # an outage of a minute is survived, with some to spare

_LOCKED = "another process keeps it locked; end that process, or try again later"
_TRANSIENT = {  # SQLite's result codes for conditions that may pass
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,  # lost a race for the write-ahead log's locks
    sqlite3.SQLITE_FULL: "its disk is full; free some space",
    # What a full disk looks like while the write-ahead log is extended.
    sqlite3.SQLITE_IOERR: "its disk reports errors; check the disk and its free space",
}
_REASONS = _TRANSIENT | {
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database; name another one",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy",
    # Also where it is only read: that takes a write-ahead log beside it.
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of file and folder or, "
    "to read it, copy it, and its -wal file if there is one, to a folder of your own",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the permissions of file and folder",
}

# What a server or a pooler says when it has no connection left; connecting gives no code.
_CROWDED = re.compile(
    "too many (?:clients|connections)|remaining connection slots|no more connections allowed"
)


@dataclass(kw_only=True)
class Database:
    """An open database. One for each process: a forked child opens its own.

    Attributes:
        url: with the password masked.
        optuna: for `optuna.create_study` and `load_study`, always this one object.
        runs_dir: where the user keeps its studies' files, see `search.store.folders.runs_folder`.
        patience_seconds: how long to wait for an outage to end.
        leaving: once set, perhaps by a signal, the wait for an outage to end is short.
    """

    url: str
    optuna: RDBStorage
    runs_dir: str | Path | None = None
    patience_seconds: float = PATIENCE_SECONDS
    leaving: threading.Event = field(default_factory=threading.Event)

    @property
    def engine(self) -> Engine:
        return self.optuna.engine

    @property
    def connection(self) -> Connection:
        """The connection of the current transaction on this thread."""
        found = self.optuna.scoped_session().get_bind()
        assert isinstance(found, Connection)
        return found

    @property
    def patience(self) -> float:
        """Seconds to wait for an outage to end, as of now."""
        return min(1.0, self.patience_seconds) if self.leaving.is_set() else self.patience_seconds

    def close(self) -> None:
        """Close the connections."""
        self.optuna.remove_session()
        self.engine.dispose()


def with_retry(db: Database, operation: Callable[[], T]) -> T:
    """Run an operation, and run it again while the database is unavailable, locked or full.

    The operation must make its own transactions and be idempotent: if the answer to a commit is
    lost on its way back, it runs again although it succeeded. Raises `StorageError` if it did not
    succeed within `db.patience`, or never can.
    """
    started = time.monotonic()
    delay = 0.05
    while True:
        try:
            return operation()
        except (exc.SQLAlchemyError, StorageInternalError) as error:
            if not is_transient(error):
                known = forbids_writing(error) or _sqlite_code(error) in _REASONS
                if known or isinstance(error, exc.OperationalError):
                    raise StorageError(f"{db.url}: {explain(error)}") from error
                raise  # a bug of ours, not an outage
            waited = time.monotonic() - started
            if waited >= db.patience:
                raise StorageError(
                    f"{db.url} did not answer for {waited:.0f} s: {explain(error)}. What was "
                    "reported is stored; resume with the same command"
                ) from error
            if delay == 0.05:
                _log.warning("%s does not answer: %s; trying again", db.url, explain(error))
        # Jitter: workers that failed together must not come back together.
        time.sleep(delay * JITTER.uniform(0.5, 1.0))
        delay = min(2 * delay, 1.0)


@contextmanager
def outages_told(db: Database) -> Iterator[None]:
    """Turn errors in the block that say that the database is unavailable into `OutageError`."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        if not is_transient(cause):
            raise
        why = f"{explain(cause)}. What was reported is stored; resume with the same command"
        raise OutageError(f"{db.url} does not answer: {why}") from cause


@contextmanager
def transaction(db: Database, *, read_only: bool = False) -> Iterator[Connection]:
    """One transaction for our tables and for all that Optuna does on this thread in the meantime.

    What `ask`, `tell`, `suggest_*`, `enqueue_trial` and attributes write is committed together
    with what is written through the connection, or not at all: Optuna's sessions join it as
    savepoints. Must not be nested. On SQLite a read-only one neither waits for writers nor delays
    them.
    """
    sessions = db.optuna.scoped_session
    outer = sessions.registry() if sessions.registry.has() else None
    sessions.registry.clear()
    options = {"read_only": True} if read_only else {}  # none: the engine's, see `forbid_writing`
    with db.engine.connect().execution_options(**options) as connection, connection.begin():
        sessions(bind=connection, join_transaction_mode="create_savepoint")
        try:
            yield connection
        finally:
            sessions.remove()
            if outer is not None:
                sessions.registry.set(outer)


def read(db: Database, ask: Callable[[Connection], T]) -> T:
    """Return what `ask` finds; as `write`, but read-only."""
    return write(db, ask, read_only=True)


def write(db: Database, do: Callable[[Connection], T], *, read_only: bool = False) -> T:
    """Run `do` in a transaction and return its result; see `with_retry`."""

    def attempt() -> T:
        with transaction(db, read_only=read_only) as connection:
            return do(connection)

    return with_retry(db, attempt)


@contextmanager
def optuna_warnings_only() -> Iterator[None]:
    """Inside the block, Optuna's logger shows nothing below warnings."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def is_transient(error: BaseException | None) -> bool:
    """Whether the same transaction may succeed if retried: an outage, a lock, a full disk."""
    error, code = _cause(error), _sqlite_code(error)
    if code is not None:
        return code in _TRANSIENT
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    passing = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, exc.PendingRollbackError)
    return isinstance(error, passing)


def is_full(error: BaseException | None) -> bool:
    """Whether SQLite found no room on its disk."""
    return _sqlite_code(error) == sqlite3.SQLITE_FULL


def is_crowded(error: BaseException | None) -> bool:
    """Whether a server refused one connection more."""
    return bool(_CROWDED.search(str(_cause(error))))


def forbids_writing(error: BaseException | None) -> bool:
    """Whether it failed only because we may read but not write."""
    # On a server a read-only transaction, or insufficient privilege.
    refused = getattr(getattr(_cause(error), "orig", None), "sqlstate", None) in ("25006", "42501")
    return refused or _sqlite_code(error) == sqlite3.SQLITE_READONLY


def explain(error: BaseException | None) -> str:
    """Reason and remedy in one line: the driver's own words, or better ones where we have them."""
    cause = _cause(error)
    first_line = next(iter(str(getattr(cause, "orig", cause)).splitlines()), "no reason given")
    if (code := _sqlite_code(error)) is not None:
        return _REASONS.get(code, f"{first_line}; check the file")
    remedy = "check the server and the URL"
    if forbids_writing(error):
        remedy = "give the URL of a server and a user that may do this"
    elif is_crowded(error):
        remedy = "give fewer --workers, raise max_connections, use pgbouncer (docs/clusters.md) or "
        remedy += "try again later"
    elif "no password supplied" in first_line:
        remedy = f"put it into ~/.pgpass, $PGPASSWORD or ${STORAGE_VARIABLE}"
    return f"{first_line}; {remedy}"


def _cause(error: BaseException | None) -> BaseException | None:
    """The error that Optuna wrapped, or that preceded one saying only "roll back first"."""
    while isinstance(error, StorageInternalError | exc.PendingRollbackError):
        if (earlier := error.__cause__ or error.__context__) is None:
            break
        error = earlier
    return error


def _sqlite_code(error: BaseException | None) -> int | None:
    """SQLite's primary result code; None if the error is not SQLite's."""
    found = getattr(_cause(error), "orig", None)
    if not isinstance(found, sqlite3.Error):
        return None
    if getattr(found, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHMSIZE:
        return sqlite3.SQLITE_FULL  # no room for the write-ahead log's index, which readers need
    # Extended codes (SQLITE_IOERR_WRITE) hold the primary one in their low byte. Errors that
    # Python's own layer raises have none.
    return getattr(found, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
