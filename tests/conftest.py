"""Fixtures for all tests: one thread, and real databases."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes that tests start

import hypothesis
import optuna
import pytest
import torch

from search.terminal import commands
from tests.postgres import PostgresServer, postgres_binaries

torch.set_num_threads(1)
gc.set_threshold(50_000)  # as in our commands
# A shell's background jobs ignore SIGINT, and so would every process that the tests start.
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
        help="inject as many faults as docs/reliability.md says, not only a few of each kind",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those that wait for Ray first: left to the end, they keep one process while the others idle.

    On a slow machine one of them, or one at full counts, may take many minutes.
    """
    items.sort(key=lambda item: "_ray" not in item.path.name)
    for item in items:
        if config.getoption("--all-faults") or "_ray" in item.path.name:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(autouse=True)
def _no_command_ends_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "leave", sys.exit)


def draw_nothing(patch: pytest.MonkeyPatch) -> None:
    """Studies draw no pictures of trials, and neither note nor figures for the dashboard."""
    content = "search.dashboard.content"
    patch.setattr(f"{content}.TrialPictures.upload", lambda *_: None)
    patch.setattr(f"{content}.write_content", lambda *_: None)


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves time where nothing reads what studies draw."""
    draw_nothing(monkeypatch)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """`finalise` trains in one process, and draws nothing: that takes longer than the training."""
    monkeypatch.setattr("search.final.runs.default_workers", lambda _: 1)
    monkeypatch.setattr("search.final.folder.final_pictures", lambda _: {})
    draw_nothing(monkeypatch)


@pytest.fixture(scope="session")
def times(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """`times(few, all)`: how often to do a costly thing; `all` with --all-faults."""
    complete = pytestconfig.getoption("--all-faults")
    return lambda few, all_: all_ if complete else few


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server; a test that stops it must start it again."""
    binaries = postgres_binaries()
    if binaries is None:
        missing = "no PostgreSQL server binaries (Debian: apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    # Not pytest's own temporary folder, which the server's user could not enter. In memory, if
    # there is enough: no disk shared with other tests, and no thousands of files to remove from it.
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


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of each kind in turn: empty, or with tables if it is opened as `db`."""
    has_tables = "db" in request.fixturenames
    if request.param == "sqlite":
        file = tmp_path / "studies.db"
        if has_tables:
            shutil.copy(request.getfixturevalue("sqlite_tables"), file)
        yield f"sqlite:///{file}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    if has_tables:
        with server.copied(request.getfixturevalue("postgres_tables")) as url:
            yield url
    else:
        yield server.new_database()


HOSTILE = (
    # HTML, raw and escaped
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
    # terminators and control characters
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
    # text that looks different from what it is
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
    """As on a CPU without bfloat16 arithmetic, for results that are compared to the last digit."""
    monkeypatch.setattr("search.training.task._cpu_computes_in_bfloat16", lambda: False)
