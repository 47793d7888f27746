"""Fixtures for all tests: one thread, and real databases."""

import gc
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes that tests start

import hypothesis
import optuna
import psycopg
import pytest
import torch

torch.set_num_threads(1)
gc.set_threshold(50_000)  # as in our commands
# A shell ignores it for what it starts in the background, and so would all processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
optuna.logging.set_verbosity(optuna.logging.WARNING)
# Few examples, the same each time; pytest --hypothesis-profile=long looks for new ones.
_ANY = {"deadline": None, "database": None, "suppress_health_check": list(hypothesis.HealthCheck)}
hypothesis.settings.register_profile("short", max_examples=40, derandomize=True, **_ANY)
hypothesis.settings.register_profile("long", max_examples=3000, **_ANY)
hypothesis.settings.load_profile("short")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-faults",
        action="store_true",
        help="inject as many faults as docs/reliability.md says, and not a few of each kind",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """At full counts one test may take many minutes on a slow machine."""
    if config.getoption("--all-faults"):
        for item in items:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def times(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """`times(few, all)`: how often to do a costly thing; `all` with --all-faults."""
    complete = pytestconfig.getoption("--all-faults")
    return lambda few, all_: all_ if complete else few


class PostgresServer:
    """A PostgreSQL of our own in a temporary folder, reached by a Unix socket.

    It may be stopped, crashed and started again. Its files are not synced: they outlive its own
    crash, and a power cut is not tested.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count()
        # initdb and postgres refuse to be run by root.
        self._user: dict[str, str | int | list[str]] = {}
        if os.geteuid() == 0:
            account = next(a for a in pwd.getpwall() if a.pw_name in ("postgres", "nobody"))
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", str(folder / "data"), *options).check_returncode()
        # The role `guarded` needs its password; all others are let in.
        access = folder / "data" / "pg_hba.conf"
        access.write_text("local all guarded scram-sha-256\nlocal all all trust\n")

    def _run(self, binary: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [str(self._binaries / binary), *arguments]
        return subprocess.run(command, cwd=self._folder, capture_output=True, **self._user)

    def start(self) -> None:
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "max_connections": "200",
            "shared_buffers": "16MB",
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

    def stop(self, *, crash: bool = False) -> None:
        """End it as `pg_ctl stop -m fast` does, or `-m immediate` for a crash."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        self._process.wait(timeout=30)

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
        """The URL of an empty database: in truth a schema, which is made in no time."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE SCHEMA {name}")
        return f"{self.url('postgres')}&options=-csearch_path%3D{name}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server; whoever stops it starts it again."""
    binaries = _postgres_binaries()
    if binaries is None:
        missing = "no PostgreSQL server binaries (Debian: apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    # Not pytest's own temporary folder, which the server's user could not enter. In memory, where
    # there is enough: no disk to share with other tests, nor thousands of files to remove from it.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2**30
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=memory if roomy else None))
    try:
        server = PostgresServer(binaries, folder)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_binaries() -> Path | None:
    on_path = shutil.which("postgres")
    found = [Path(on_path).parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # as Debian has it
    return next((folder for folder in found if (folder / "initdb").exists()), None)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'studies.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


HOSTILE = (
    # HTML, and what comes out of it
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><b onmouseover="alert(1)">',
    "<!-- <b>",
    "<style>*{display:none}</style>",
    "&lt;script&gt;&#x3c;b&#x3e;",
    # Markdown, rich markup, templates
    "![x](https://evil.example/x.png)",
    "[x](javascript:alert(1))",
    "`x` **b** ~~s~~ # h",
    "[bold red]x[/bold red]",
    "{{7*7}}${7*7}%(x)s{0.__class__}",
    # SQL
    "'; DROP TABLE studies; --",
    # characters that end things
    "a\x00b",
    "a\nb",
    "a\r\nSet-Cookie: x=y",
    "a\u2028b\u2029c\x85d",
    "\x1b[2J\x1b]0;title\x07",
    # paths
    "../../etc/passwd",
    "..",
    ".",
    "..\\..\\windows",
    "a/b",
    "%2e%2e%2f",
    "-rf",
    # what reads otherwise than it is
    "\u202egnp.exe",
    "\u2066a\u2069\u200b\ufeff",
    "Z" + "\u0300" * 80,
    # formulas
    "=cmd|' /C calc'!A0",
    # too much, too little
    "x" * 100_000,
    "",
    "\ud800",
)


@pytest.fixture(scope="session")
def hostile_names() -> tuple[str, ...]:
    """Names that people may type to break something. None is a study's, some are a class's."""
    return HOSTILE


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU that does not compute in bfloat16: for what is compared to the last digit."""
    monkeypatch.setattr("search.training.task._cpu_computes_in_bfloat16", lambda: False)
