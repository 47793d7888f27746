"""A private PostgreSQL, for tests and for benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

with suppress(ImportError):  # every test imports this; GPU tests need no database server
    import psycopg

POOLER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


class PostgresServer:
    """A PostgreSQL of our own in a temporary folder, reached by a Unix socket.

    It may be stopped, crashed and restarted. By default its files are not synced: they survive its
    own crash, and power cuts are not tested.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count()
        # initdb and postgres refuse to be run by root.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = next(a for a in pwd.getpwall() if a.pw_name in ("postgres", "nobody"))
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        command = [str(binaries / "initdb"), "-D", str(folder / "data"), *options]
        subprocess.run(command, cwd=folder, capture_output=True, check=True, **self._user)
        # The role `guarded` needs its password; all others are let in.
        access = folder / "data" / "pg_hba.conf"
        access.write_text("local all guarded scram-sha-256\nlocal all all trust\n")

    def start(self, **settings: str) -> None:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "max_connections": "200",
            "shared_buffers": "16MB",
            **settings,
        }
        command = [str(self._binaries / "postgres"), "-D", str(self._folder / "data")]
        command += [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, stdout=log, stderr=log, **self._user
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, *, crash: bool = False) -> None:
        """End it as `pg_ctl stop -m fast` does, or `-m immediate` for a crash."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        self._process.wait(timeout=30)

    @contextmanager
    def pooled(self, database: str, connections: int) -> Iterator[str]:
        """Its URL through pgbouncer: each transaction gets whichever connection is free."""
        where = self._folder
        settings = where / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host={where} user=postgres pool_size={connections}\n"
            "[pgbouncer]\npool_mode = transaction\nmax_client_conn = 2000\n"
            f"auth_type = any\nunix_socket_dir = {where}\nlisten_port = 6000\n"
        )
        assert POOLER is not None
        with (where / "log").open("ab") as log:
            pooler = subprocess.Popen([POOLER, str(settings)], stdout=log, stderr=log, **self._user)
        try:
            deadline = time.monotonic() + 30
            while not (where / ".s.PGSQL.6000").exists():
                assert time.monotonic() < deadline, (where / "log").read_text()
                time.sleep(0.05)
            yield f"{self.url(database)}&port=6000"
        finally:
            pooler.terminate()
            pooler.wait()

    def execute(self, statement: str) -> None:
        """Run a statement in the database `postgres`."""
        dsn = f"host={self._folder} user=postgres dbname=postgres"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement)

    def terminate_connections(self) -> None:
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self._folder}"

    def new_database(self) -> str:
        """The URL of an empty database: actually a schema, which takes no time to create."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE SCHEMA {name}")
        return f"{self.url('postgres')}&options=-csearch_path%3D{name}"

    @contextmanager
    def copied(self, database: str) -> Iterator[str]:
        """The URL of a copy of a database that nobody uses, for the block."""
        name = f"copy_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {database}")
        yield f"{self.url(name)}&options=-csearch_path%3Dpublic"
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def postgres_binaries() -> Path | None:
    on_path = shutil.which("postgres")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # as Debian has it
    return next((folder for folder in found if (folder / "initdb").exists()), None)
