"""Opening a database: which one the URL means, and whether it is ours.

SQLite serves one host: its write-ahead log needs shared memory, and the locks of network file
systems cannot be trusted. PostgreSQL serves any number.
"""

import random
import time
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Connection, create_engine, exc, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from search.store.completing import ForeignTableError, complete, lacking
from search.store.connections import POSTGRESQL, SQLITE, set_up_postgresql, set_up_sqlite
from search.store.direct_storage import storage_class
from search.store.outages import explain, forbids_writing, is_creation_race, is_transient
from search.store.storage import PATIENCE_SECONDS, Database, StorageError
from search.store.storage_url import NOT_SHOWN, mask_password, read_url
from search.store.tables import identities


def database_exists(url: str) -> bool:
    """Whether opening it would not create it. A server's database counts as existing."""
    address = _address(url, mask_password(url))
    return address.get_backend_name() != "sqlite" or Path(address.database or "").exists()


def open_database(url: str, *, must_exist: bool = False) -> Database:
    """Open a database and create what it lacks; any number of processes may do so at once.

    Args:
        url: `sqlite:///FILE` or `postgresql://USER@HOST/NAME`; psycopg 3 is the driver.
        must_exist: refuse a database without studies, and create nothing.

    Raises:
        StorageError: malformed, unreachable, unwritable, not a database, another program's, or of
            another version.
    """
    name = mask_password(url)
    address = _address(url, name)
    sqlite = address.get_backend_name() == "sqlite"
    if sqlite:
        _check_file(address, name, must_exist=must_exist)
    started = time.monotonic()
    while True:
        try:
            return _open(address, name, must_exist=must_exist)
        except (exc.SQLAlchemyError, StorageInternalError) as error:
            # A lock passes, and a server that hung up in the midst comes back; one that cannot be
            # reached at all is more likely a wrong URL.
            hung_up = isinstance(error, exc.DBAPIError) and error.connection_invalidated
            passing = is_creation_race(error) or hung_up or (sqlite and is_transient(error))
            if not passing or time.monotonic() - started > PATIENCE_SECONDS:
                raise StorageError(f"cannot open {name}: {explain(error)}") from error
        except ModuleNotFoundError as error:
            raise StorageError(
                f"cannot open {name}: its driver is missing; pip install 'cnn-search[postgres]'"
            ) from error
        time.sleep(random.uniform(0.02, 0.2))


def _address(url: str, name: str) -> URL:
    if name == NOT_SHOWN:
        raise StorageError(
            f"{name} is not a database that can be used; write sqlite:///FILE.db or "
            "postgresql://USER:PASSWORD@HOST/NAME with @ / : % of a name or password as %40 %2F "
            "%3A %25, or leave the password to ~/.pgpass"
        )
    address = read_url(url) or URL.create("malformed")
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    if address.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise StorageError(
            f"{name!r} is not a database that can be used; write sqlite:///FILE.db or "
            "postgresql://USER@HOST/NAME"
        )
    return address


def _check_file(address: URL, name: str, *, must_exist: bool) -> None:
    path = Path(address.database or "")
    if address.database in (None, "", ":memory:") or "uri" in address.query:
        raise StorageError(f"cannot open {name}: it names no file; write sqlite:///FILE.db")
    if path.is_dir():
        raise StorageError(f"cannot open {name}: {path} is a folder; name a file in it")
    if must_exist and not path.exists():
        raise StorageError(f"cannot open {name}: no such file; run python -m search.study first")
    if not path.parent.is_dir():
        raise StorageError(f"cannot open {name}: there is no folder {path.parent}; create it first")


def _open(address: URL, name: str, *, must_exist: bool) -> Database:
    sqlite = address.get_backend_name() == "sqlite"
    options = dict(SQLITE if sqlite else POSTGRESQL)
    arguments = {k: v for k, v in options.pop("connect_args").items() if k not in address.query}

    glance = create_engine(address, poolclass=NullPool, connect_args=arguments)
    with glance.connect() as connection:
        found = _look(connection, name, must_exist=must_exist)
        missing = _lacking(connection, name)
        if sqlite:  # readers and the writer do not wait for each other; the file remembers it
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    # Optuna's constructor reads on one connection inside a transaction of another. It would wait
    # for itself under the locking transactions that all after it get.
    storage = storage_class()(
        address.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
        engine_kwargs={**options, "connect_args": arguments},
        skip_compatibility_check=True,  # made below, where the connections can be closed
        skip_table_creation="alembic_version" in found,
    )
    db = Database(url=name, engine=storage.engine, optuna=storage)
    try:
        _check_version(storage, name)
        db.close()  # its connections lack what follows
        (set_up_sqlite if sqlite else set_up_postgresql)(db)
        if missing:
            _complete(db, missing)
    except BaseException:
        db.close()
        raise
    return db


def _look(connection: Connection, name: str, *, must_exist: bool) -> set[str]:
    """The names of the tables in it, `alembic_version` only where Optuna has completed its own."""
    inspector = inspect(connection)
    found = set(inspector.get_table_names())
    optunas = found & {"studies", "version_info"}
    if must_exist and not optunas:
        raise StorageError(f"cannot open {name}: it is empty; run python -m search.study first")
    # Other tables do no harm on a server, but alembic keeps only one version in a database.
    foreign = found if connection.dialect.name == "sqlite" else found & {"alembic_version"}
    if foreign and not optunas:
        some = ", ".join(sorted(found)[:3])
        raise StorageError(
            f"cannot open {name}: it belongs to another program (tables {some}); name another one"
        )
    version = text("SELECT count(*) FROM alembic_version")
    if "alembic_version" in found and not connection.scalar(version):
        found.discard("alembic_version")
    return found


def _lacking(connection: Connection, name: str) -> set[str]:
    try:
        return lacking(connection)
    except ForeignTableError as error:
        raise StorageError(
            f"cannot open {name}: its table {error.args[0]!r} is another program's; "
            "name another database"
        ) from error


def _complete(db: Database, missing: set[str]) -> None:
    """Add what an earlier version lacks; a reader who may not can do without identities."""
    try:
        complete(db.engine)
    except exc.DBAPIError as error:
        if not forbids_writing(error):
            raise
        if missing != {identities.name}:
            raise StorageError(
                f"cannot open {db.url}: an earlier version made it, and what it lacks cannot be "
                "added without permission to write; open it once with that permission"
            ) from error
        db.is_complete = False


def _check_version(storage: RDBStorage, name: str) -> None:
    there, here = storage.get_current_version(), storage.get_head_version()
    if there != here:
        raise StorageError(
            f"cannot open {name}: made by another version of Optuna (schema {there}, here {here}); "
            "install that version, or upgrade a copy with optuna storage upgrade"
        )
