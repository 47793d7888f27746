"""What went wrong with a database: will it pass, and how to say so in one line."""

import sqlite3

from optuna.exceptions import StorageInternalError
from sqlalchemy import exc

_SQLITE_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,  # lost a race for the write-ahead log's locks
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,  # what a full disk looks like while the write-ahead log is extended
}
_SQLITE_REASONS = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; end that process, or try again later",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked; end that process, or try again later",
    sqlite3.SQLITE_FULL: "its disk is full; free some space",
    sqlite3.SQLITE_IOERR: "its disk reports errors; check the disk and its free space",
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database; name another one",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a copy",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of file and folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the permissions of file and folder",
}


_POSTGRESQL_FORBIDDEN = {"25006", "42501"}  # a read-only transaction, insufficient privilege


def is_transient(error: BaseException | None) -> bool:
    """Whether the same transaction, begun anew, may succeed: an outage, a lock, a full disk."""
    if isinstance(error, StorageInternalError):  # Optuna's wrapping
        return is_transient(error.__cause__)
    if isinstance(error, exc.DBAPIError) and isinstance(error.orig, sqlite3.Error):
        return _sqlite_code(error.orig) in _SQLITE_PASSING
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return True
    # A pending rollback is a lost connection too: what Optuna meets when it tries again on it.
    passing = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, exc.PendingRollbackError)
    return isinstance(error, passing)


def forbids_writing(error: exc.DBAPIError) -> bool:
    """Whether what was tried failed only because we may read and not write."""
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_code(error.orig) == sqlite3.SQLITE_READONLY
    return getattr(error.orig, "sqlstate", None) in _POSTGRESQL_FORBIDDEN


def is_creation_race(error: Exception) -> bool:
    """Whether another process has created the same table or row in the meantime."""
    return isinstance(error, exc.IntegrityError) or "already exists" in str(error)


def explain(error: BaseException | None) -> str:
    """Reason and remedy in one line: the driver's own words, or better ones where we know them."""
    if isinstance(error, StorageInternalError):
        return explain(error.__cause__)
    driver_error = error.orig if isinstance(error, exc.DBAPIError) else error
    first_line = (str(driver_error).splitlines() or ["no reason given"])[0]
    if isinstance(driver_error, sqlite3.Error):
        return _SQLITE_REASONS.get(_sqlite_code(driver_error), f"{first_line}; check the file")
    return f"{first_line}; check the server and the URL"


def _sqlite_code(error: BaseException) -> int:
    # Extended codes (SQLITE_IOERR_WRITE) hold the primary one in their low byte. Errors that
    # Python's own layer raises have none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
