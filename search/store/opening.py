"""Opening a database: which one its URL means, whether it is ours, and how connections behave.

SQLite serves one host: its write-ahead log needs shared memory, and the locks of network file
systems cannot be trusted. PostgreSQL serves any number.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, create_engine, event, exc, inspect
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.pool import NullPool

from search.store import (
    NOT_SHOWN,
    OutageError,
    StorageError,
    StudyGoneError,
    is_sqlite,
    mask_password,
    read_url,
)
from search.store.database import (
    JITTER,
    PATIENCE_SECONDS,
    Database,
    explain,
    is_crowded,
    is_full,
    is_transient,
)
from search.store.schema import SchemaError, is_current, migrate

_log = logging.getLogger(__name__)

# SQLite waits for its lock inside C, where no signal is handled: wait briefly, repeatedly.
_SQLITE = {"timeout": 1.0, "isolation_level": None}  # None: no BEGIN of Python's own
_LOCK_SECONDS = 30.0  # in total; after that, Optuna's own calls give up and ours are retried
SILENT_SECONDS = 5.0  # of waiting before the user is told: another process may be making tables
_POSTGRESQL = {
    "connect_timeout": 5,
    "application_name": "cnn-search",
    "client_encoding": "utf8",  # a database with SQL_ASCII sends bytes to clients that name none
    # A server that vanished silently is noticed within a minute, not within two hours.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    # Behind a pooler such as pgbouncer each transaction may run in another session, which does not
    # know what an earlier one has prepared. Ours are as fast without prepared statements.
    "prepare_threshold": None,
}
# A process keeps one connection; those that its threads need beside it are closed after use.
_POOL = {"pool_pre_ping": True, "pool_size": 1}
# How a server, or the look-up of its name, refuses a URL for good: connecting gives no code, only
# text. Whatever is not known here, such as a message in another language, may pass.
_MISTAKE = re.compile(
    "authentication failed|no password supplied|no pg_hba.conf entry|"
    '(?:database|role) ".*" does not exist|Name or service not known|nodename nor servname|'
    "getaddrinfo failed"
)
# A worker stopped in the middle of a transaction must not block all the others with its locks.
_LOCK_LIMITS = "SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '30s'"


def database_exists(url: str) -> bool:
    """Whether the database exists already. A server's database counts as existing."""
    address = _address(url, mask_password(url))
    return not is_sqlite(address) or Path(address.database or "").exists()


def open_database(
    url: str,
    *,
    must_exist: bool = False,
    patient: bool = False,
    runs_dir: str | Path | None = None,
) -> Database:
    """Open a database and create what it lacks; any number of processes may do so at once.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`; psycopg 3 is the driver.
        must_exist: refuse a database without studies, and create nothing.
        patient: wait for a server that cannot be reached, unless the URL is certainly wrong. For
            a free connection everybody waits.
        runs_dir: see `Database`.

    Raises `StorageError` if it cannot be used, whatever the reason; `OutageError` after waiting
    patiently for what may still pass.
    """
    name = mask_password(url)
    address = _address(url, name)
    if is_sqlite(address):
        _check_file(address, name, must_exist=must_exist)
    started, is_told = time.monotonic(), False
    while True:
        try:
            db = _open(address, name, must_exist=must_exist)
            db.runs_dir = runs_dir
            return db
        except ModuleNotFoundError as error:
            reason = "its driver is missing; pip install 'cnn-search[postgres]'"
            raise StorageError(f"cannot open {name}: {reason}") from error
        except RuntimeError as error:  # SchemaError, or Optuna's for tables of another version
            raise StorageError(f"cannot open {name}: {error}") from error
        except (exc.SQLAlchemyError, StorageInternalError) as error:
            # Another process may be creating the same table, a lock clears, and a server that hung
            # up comes back; if it cannot be reached at all, a wrong URL is more likely, and
            # nobody but the user makes room on a full disk.
            passing = isinstance(error, exc.IntegrityError) or "already exists" in str(error)
            passing |= isinstance(error, exc.DBAPIError) and error.connection_invalidated
            may_pass = is_transient(error) and not _MISTAKE.search(str(error))
            waits = patient or is_crowded(error) or (is_sqlite(address) and not is_full(error))
            passing |= may_pass and waits
            problem, waited = f"cannot open {name}: {explain(error)}", time.monotonic() - started
            if not passing or waited > PATIENCE_SECONDS:
                raise (OutageError if patient and may_pass else StorageError)(problem) from error
            if waited > SILENT_SECONDS and not is_told:
                _log.warning("%s; trying again for %.0f s", problem, PATIENCE_SECONDS)
                is_told = True
        time.sleep(JITTER.uniform(0.02, 0.2))


def _address(url: str, name: str) -> URL:
    write = "write sqlite:///FILE.db or postgresql://USER@HOST/NAME"
    if name == NOT_SHOWN:
        raise StorageError(
            f"{name} is not a usable database; {write} with @ / : % in a name or "
            "password as %40 %2F %3A %25, or leave the password to ~/.pgpass"
        )
    address = read_url(url) or URL.create("malformed")
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    if address.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise StorageError(f"{name!r} is not a usable database; {write}")
    return address


def _check_file(address: URL, name: str, *, must_exist: bool) -> None:
    path = Path(address.database or "")
    if address.database in (None, "", ":memory:") or "uri" in address.query:
        problem = "it names no file; write sqlite:///FILE.db"
    elif path.is_dir():
        problem = f"{path} is a folder; name a file in it"
    elif must_exist and not path.exists():
        problem = "no such file; run python -m search.study first"
    elif not path.parent.is_dir():
        problem = f"there is no folder {path.parent}; create it first"
    else:
        return
    raise StorageError(f"cannot open {name}: {problem}")


def _open(address: URL, name: str, *, must_exist: bool) -> Database:
    sqlite = is_sqlite(address)
    options: Mapping[str, Any] = _SQLITE if sqlite else _POSTGRESQL
    arguments = {key: value for key, value in options.items() if key not in address.query}
    unpooled: dict[str, Any] = {"connect_args": arguments, "poolclass": NullPool}
    pooled = {"connect_args": arguments, **({} if sqlite else _POOL)}

    with create_engine(address, **unpooled).connect() as connection:
        _refuse_others(connection, must_exist=must_exist)
        current = is_current(connection)
        if sqlite:  # persistent; readers and the writer do not wait for each other
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    place = address.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    if not current:  # creates what is missing
        RDBStorage(place, engine_kwargs=unpooled)
    storage = RDBStorage(
        place, engine_kwargs=pooled, skip_compatibility_check=True, skip_table_creation=True
    )
    db = Database(url=name, optuna=storage)
    # Not by Optuna's own check, which opens a connection while another is in a transaction: behind
    # a pooler that has only one, it would wait for itself.
    fits = storage.get_current_version() == storage.get_head_version()
    db.close()  # the connections made so far lack what follows
    if not fits:
        RDBStorage(place, engine_kwargs=unpooled)  # refuses, in Optuna's words
    if sqlite:
        _on_connect(db, "PRAGMA synchronous = FULL")  # a commit is on disk when it returns
        _set_up_sqlite(db)
    else:
        _on_connect(db, _LOCK_LIMITS)
    if not current:
        try:
            migrate(db.engine)
        except BaseException:
            db.close()
            raise
    return db


def _refuse_others(connection: Connection, *, must_exist: bool) -> None:
    """Raises SchemaError for a database that is not ours."""
    found = set(inspect(connection).get_table_names())
    if not found & {"studies", "version_info"}:  # Optuna's, perhaps not yet all of them
        # Other tables do no harm on a server, but alembic keeps only one version per database.
        foreign = found if connection.dialect.name == "sqlite" else found & {"alembic_version"}
        if must_exist:
            raise SchemaError("it is empty; run python -m search.study first")
        if foreign:
            some = ", ".join(sorted(found)[:3])
            raise SchemaError(f"it belongs to another program (tables {some}); name another one")


def _set_up_sqlite(db: Database) -> None:
    """Every transaction takes the one write lock as it begins, unless it only reads.

    There are no row locks: of two that read and then write, one would fail, or undo the other.

    A removed or replaced file is noticed when a transaction begins: open connections would still
    accept writes that nobody will ever read, and new ones would create or open another file.
    """
    path = Path(db.engine.url.database or "")
    opened = _file(path)

    def check_file(*_: Any) -> None:
        if _file(path) != opened:
            raise StudyGoneError(
                f"{db.url}: the file was removed or replaced while this ran, and nothing more can "
                "be stored; put it back, or run the command again to start from scratch"
            )

    def begin(connection: Connection) -> None:
        check_file()
        if connection.get_execution_options().get("read_only"):
            connection.exec_driver_sql("BEGIN")
            return
        started = time.monotonic()
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                break
            except exc.OperationalError as error:
                waited = time.monotonic() - started
                if not is_transient(error) or waited >= min(_LOCK_SECONDS, db.patience):
                    raise

    def failed(context: ExceptionContext) -> None:
        # A full disk makes SQLite roll back by itself. What Optuna then tries on the connection
        # would be committed statement by statement, so it is treated like a lost one.
        connection = context.connection
        if connection is None or not connection.in_transaction() or connection.invalidated:
            return
        driver_connection = connection.connection.dbapi_connection
        assert isinstance(driver_connection, sqlite3.Connection)
        if not driver_connection.in_transaction:
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = False

    event.listen(db.engine, "do_connect", check_file)
    event.listen(db.engine, "begin", begin)
    event.listen(db.engine, "handle_error", failed)


def _file(path: Path) -> tuple[int, int] | None:
    """What identifies the file, whatever its name; None if there is none."""
    with suppress(OSError):
        return (found := path.stat()).st_dev, found.st_ino
    return None


def forbid_writing(db: Database) -> None:
    """From now on nothing can be changed through it, and on SQLite it delays no writer."""
    db.close()  # the connections made before
    db.engine.update_execution_options(read_only=True, postgresql_readonly=True)
    if db.engine.dialect.name == "sqlite":
        _on_connect(db, "PRAGMA query_only = ON")


def _on_connect(db: Database, statements: str) -> None:
    def connected(driver_connection: Any, _record: Any) -> None:
        driver_connection.execute(statements)
        driver_connection.commit()

    event.listen(db.engine, "connect", connected)
