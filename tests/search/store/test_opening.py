"""Databases are opened and created, and other programs' files are left alone."""

import os
import socket
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import optuna
import psycopg
import pytest
from sqlalchemy import create_engine, exc, inspect, text

from search.store import OutageError, StorageError
from search.store.database import Database
from search.store.opening import open_database
from search.store.schema import OURS
from tests.search.conftest import SECRET
from tests.search.workplaces import SmallDisk, open_at_once


@pytest.fixture
def only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried again after a pause."""
    time = SimpleNamespace(monotonic=monotonic, sleep=lambda _: pytest.fail("it tries again"))
    for module in ("opening", "database"):
        monkeypatch.setattr(f"search.store.{module}.time", time)


def message(url: str, *, must_exist: bool = False) -> str:
    """The one line that this URL is refused with."""
    with pytest.raises(StorageError) as caught:
        open_database(url, must_exist=must_exist).close()
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_adds_tables_to_a_database_of_plain_optuna(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/plain.db"
    optuna.create_study(study_name="theirs", storage=url)
    with closing(open_database(url)) as db:
        assert set(inspect(db.engine).get_table_names()) >= {table.name for table in OURS}
        assert optuna.get_all_study_names(db.optuna) == ["theirs"]


def test_many_processes_create_one_database(database_url: str) -> None:
    open_at_once(database_url)
    with closing(open_database(database_url)) as db, db.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_an_interrupted_creation_is_completed(tmp_path: Path) -> None:
    path = tmp_path / "cut.db"
    with closing(sqlite3.connect(path)) as connection:  # as Optuna leaves it when it is killed
        connection.execute(
            "CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name VARCHAR(512) NOT NULL)"
        )
    with closing(open_database(f"sqlite:///{path}")) as db:
        assert optuna.create_study(storage=db.optuna).trials == []


@pytest.mark.usefixtures("only_once")
def test_a_full_disk_is_named_at_once(small_disk: SmallDisk) -> None:
    url = f"sqlite:///{small_disk.folder / 'studies.db'}"
    open_database(url).close()
    small_disk.fill()
    assert message(url) == f"cannot open {url}: its disk is full; free some space"
    small_disk.empty()
    open_database(url).close()


def test_a_disk_error_that_passes_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = sqlite3.OperationalError("disk I/O error")
    passing.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    left = [exc.OperationalError("", {}, passing)]

    def flaky(*arguments: Any, **options: Any) -> Any:
        if left:
            raise left.pop()
        return create_engine(*arguments, **options)

    monkeypatch.setattr("search.store.opening.create_engine", flaky)
    open_database(f"sqlite:///{tmp_path / 'studies.db'}").close()
    assert not left


def test_sqlite_survives_power_cuts_and_locks_at_once(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with closing(open_database(f"sqlite:///{path}")) as db, db.engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        with closing(sqlite3.connect(path, timeout=0)) as other:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            assert other.execute("SELECT count(*) FROM trials").fetchone() == (0,)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("studies.db", "write sqlite:///FILE.db or postgresql://"),
        ("mysql://me@host/db", "write sqlite:///FILE.db or postgresql://"),
        ("postgresql://me:secret@host:port/db", "write sqlite"),
        ("postgresql://me:p@secret@host/db", "as %40"),
        ("sqlite:///:memory:", "it names no file"),
        ("sqlite:////no/such/folder/x.db", "there is no folder /no/such/folder; create it"),
        ("sqlite:////proc/x.db", "check the permissions of file and folder"),
        ("sqlite:////", "is a folder; name a file in it"),
        ("postgresql://me:secret@127.0.0.1:1/db", "check the server and the URL"),
        ("postgresql://me@/db?host=/nowhere&password=secret", "check the server and the URL"),
    ],
)
def test_bad_urls(url: str, hint: str) -> None:
    line = message(url)
    assert hint in line
    assert "secret" not in line


def test_must_exist_creates_nothing_and_refuses_an_empty_database(
    database_url: str, tmp_path: Path
) -> None:
    if database_url.startswith("sqlite"):
        line = message(database_url, must_exist=True)
        assert "no such file; run python -m search.study first" in line
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "studies.db").touch()
    assert "empty; run python -m search.study first" in message(database_url, must_exist=True)


def test_other_files_and_other_programs_databases_are_left_alone(tmp_path: Path) -> None:
    notes, places = tmp_path / "notes.txt", tmp_path / "places.db"
    notes.write_bytes(b"not a database, and long enough to have a header " * 20)
    with closing(sqlite3.connect(places)) as connection:
        connection.execute("CREATE TABLE bookmarks (id INTEGER)")
    before = {path: path.read_bytes() for path in (notes, places)}
    assert "not an SQLite database; name another one" in message(f"sqlite:///{notes}")
    assert "belongs to another program (tables bookmarks)" in message(f"sqlite:///{places}")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_programs_alembic_on_a_server(postgres: Any) -> None:
    url = postgres.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    assert "belongs to another program" in message(url)
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        )
        assert found.fetchall() == [("alembic_version",)]


def test_another_programs_table_of_the_same_name(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    optuna.create_study(storage=f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE results (id INTEGER)")
    assert "another program owns its table 'results'" in message(f"sqlite:///{path}")


def test_another_version_of_optuna(db: Database, database_url: str) -> None:
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9.9.9.a'"))
    db.close()
    assert "no longer compatible with the table schema" in message(database_url)


@pytest.mark.usefixtures("guarded")
def test_pgpassfile(postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.url("guarded", user="guarded")
    assert "no password supplied; put it into ~/.pgpass, $PGPASSWORD or" in message(url)
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"*:*:*:guarded:{SECRET}\n")
    passfile.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    open_database(url).close()


@pytest.mark.usefixtures("guarded", "only_once")
def test_a_wrong_url_is_refused_at_once_even_by_a_worker(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    for url, says in {
        "postgresql://me@nosuch.invalid/x": "failed to resolve host",
        postgres.url("absent"): 'database "absent" does not exist',
        postgres.url("postgres", user="absent"): 'role "absent" does not exist',
        postgres.url("guarded", user="guarded:wrong"): "password authentication failed",
        postgres.url("guarded", user="guarded"): "no password supplied",
    }.items():
        with pytest.raises(StorageError, match=says) as refused:
            open_database(url, patient=True)
        assert not isinstance(refused.value, OutageError)


def test_without_a_free_connection_it_waits(
    postgres: Any, guarded: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("search.store.opening.SILENT_SECONDS", 0.0)

    def free(_: float) -> None:
        postgres.execute("ALTER ROLE guarded CONNECTION LIMIT -1")

    time = SimpleNamespace(monotonic=monotonic, sleep=free)
    monkeypatch.setattr("search.store.opening.time", time)
    postgres.execute("ALTER ROLE guarded CONNECTION LIMIT 0")
    open_database(guarded).close()
    assert 'too many connections for role "guarded"; give fewer --workers, raise' in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="has other permissions")
def test_a_file_that_may_only_be_read_has_to_be_copied() -> None:
    with tempfile.TemporaryDirectory() as folder:  # anybody may enter it, other than `tmp_path`
        url = f"sqlite:///{folder}/studies.db"
        open_database(url).close()
        Path(folder).chmod(0o555)
        is_root = os.geteuid() == 0
        try:
            if is_root:
                os.seteuid(65534)  # permissions do not bind root
            told = message(url, must_exist=True)
        finally:
            if is_root:
                os.seteuid(0)
            Path(folder).chmod(0o755)
    assert "to read it, copy it, and its -wal file if there is one, to a folder of yo" in told


def test_a_process_keeps_one_connection(postgres: Any) -> None:
    url = postgres.new_database()
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kept'"
    with (
        closing(open_database(f"{url}&application_name=kept")) as db,
        psycopg.connect(url) as other,
    ):
        other.autocommit = True
        with db.engine.connect(), db.engine.connect(), db.engine.connect():
            assert other.execute(count).fetchone() == (3,)
        deadline = monotonic() + 60
        while other.execute(count).fetchone() != (1,):
            assert monotonic() < deadline
            sleep(0.01)
