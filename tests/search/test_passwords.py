"""A password in --storage: real commands, whose processes and output are searched for it."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note
from sqlalchemy import inspect

from search import report, study
from search.store import mask_password
from search.store.opening import open_database
from search.terminal import command_line
from search.terminal.command_line import command, hide_passwords, same_command
from search.terminal.commands import Parser
from tests.search.conftest import SECRET, Call, Refused


class Watch(threading.Thread):
    """Notes the arguments of every process in a folder: other tests' commands show theirs until
    they have wiped them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.lines: set[tuple[int, str]] = set()  # of each process
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    if (process / "cwd").readlink() != self.folder:
                        continue
                    line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    self.lines.add((int(process.name), line))


@pytest.mark.timeout(900)  # several processes, one after the other
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nobody_sees_it(make_site: Callable[..., Any], guarded: str, call: Call) -> None:
    site = make_site(url=guarded)
    watch = Watch(site.folder)
    watch.start()
    process = site.search(400, "--workers", "2")
    site.wait_for_reports(1)
    for pid, line in watch.lines.copy():
        if pid == process.pid:  # its arguments, until it had wiped them
            watch.lines.discard((pid, line))
    deadline = time.monotonic() + 180
    while len({pid for pid, line in watch.lines.copy() if "bootstrap" in line}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = site.output_of(process, 130, seconds=60)
    watch.over.set()
    assert not [line for _, line in watch.lines.copy() if SECRET in line]
    assert SECRET not in out
    again = "python -m search.study --config small.toml --study s --storage 'postgresql://guarded@"
    assert f"Resume with: {again}/guarded?host=/" in out
    assert "$SEARCH_STORAGE" in out
    assert SECRET not in "".join(call(site, report.main, "--formats", "svg"))
    assert SECRET not in "".join(site.run("search.study", "--status"))
    written = [path for path in site.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".html" for path in written)
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    with closing(open_database(guarded)) as db, db.engine.connect() as connection:
        stored = "".join(
            repr(connection.exec_driver_sql(f"SELECT * FROM {table}").all())
            for table in inspect(connection).get_table_names()
        )
        note = get_note(optuna.load_study(study_name="s", storage=db.optuna))
    assert "python -m search.study" in note
    assert SECRET not in stored + note


@pytest.mark.parametrize(
    "words",
    [
        [f"--storage=postgresql://me:{SECRET}@127.0.0.1:1/x", "--trials", "x"],
        ["--config", f"postgresql:/me:{SECRET}@127.0.0.1/x"],
        ["--storage", f"me:{SECRET}@127.0.0.1/x"],
    ],
)
def test_errors_about_arguments(words: list[str], refused: Refused) -> None:
    assert SECRET not in refused(study.main, words)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--trials", "5"], "go --trials 5"),
        (["--storage", "sqlite:///a b.db"], "go --storage 'sqlite:///a b.db'"),
        (
            ["--storage=postgresql://me:pw@host/db", "--study", "a b"],
            f"go --storage=postgresql://me@host/db --study 'a b'  ({command_line.PASSWORD_HINT})",
        ),
        ([], "go"),
    ],
)
def test_the_command_to_resume_with(
    given: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cnn-search go"])
    monkeypatch.delenv("SEARCH_STORAGE", raising=False)
    assert same_command(given) == f"cnn-search {shown}"
    monkeypatch.setenv("SEARCH_STORAGE", f"postgresql://me:{SECRET}@host/db")  # not in all shells
    if not shown.startswith("go --storage"):
        assert " --storage postgresql://me@host/db  (the password" in same_command(given)


@pytest.mark.parametrize("more", ["", "?host=/tmp", "?host=/tmp&password=x%20y", "?sslpassword=z"])
def test_a_printed_command_works_where_the_variable_has_the_password(
    more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = f"postgresql://me:{SECRET}@host/db{more}"
    monkeypatch.setattr(sys, "argv", ["cnn-search go"])
    monkeypatch.setenv("SEARCH_STORAGE", held)
    parser = Parser(description="", examples="")
    parser.add("storage", "study")
    for line in (command("go", "s", mask_password(held)), same_command(["--study", "s"])):
        words = shlex.split(line.partition("  (")[0])
        assert SECRET not in line
        assert parser.parse_args(words[words.index("--study") :]).storage == held
    assert parser.parse_args([]).storage == held
    other = "postgresql://you@host/db"
    assert parser.parse_args(["--storage", other]).storage == other


def test_a_text_that_quotes_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:p\tw d@host/db"
    monkeypatch.setattr(sys, "argv", ["x", "--storage", url])
    for text in (f"unknown {url}", f"unknown {url!r}", f"unknown {' '.join(url.split())}"):
        assert "postgresql://me:***@host/db" in hide_passwords(text)
        assert "w d" not in hide_passwords(text)
