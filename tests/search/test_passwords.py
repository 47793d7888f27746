"""A password in --storage: real commands, whose processes and output are searched for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note
from sqlalchemy import inspect

from search.store import StorageError
from search.store.opening import open_database
from search.store.studies import require_study
from search.terminal import command_line
from search.terminal.command_line import hide_passwords, same_command
from tests.search.conftest import SECRET

ROOT = Path(__file__).parents[2]
STUDY = """\
[study]
trials = 400
epochs = 2
limit = 100

[space]
depth = 1
width = 4
learning_rate = { low = 1e-3, high = 1e-2, log = true }
"""


class Watch(threading.Thread):
    """Looks for the secret in the arguments of every process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: dict[int, str] = {}
        self.lines: dict[int, str] = {}  # the latest of each process
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    self.lines[int(process.name)] = line
                    if SECRET in line:
                        self.found[int(process.name)] = line


def run(folder: Path, *words: str, **env: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "true", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def has_begun(url: str) -> bool:
    """Whether a trial of a study has."""
    with suppress(StorageError), closing(open_database(url, must_exist=True)) as db:
        require_study(db, None)
        return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nobody_sees_it(tmp_path: Path, guarded: str) -> None:
    (tmp_path / "small.toml").write_text(STUDY)
    words = ["--config", "small.toml", "--dataset", "digits", "--workers", "2"]
    study = run(tmp_path, "search.study", *words, "--storage", guarded)
    deadline = time.monotonic() + 90
    try:
        while not has_begun(guarded):
            assert study.poll() is None, study.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        watch = Watch()
        watch.start()
        workers = set(map(int, subprocess.check_output(["pgrep", "-P", str(study.pid)]).split()))
        os.kill(min(workers), signal.SIGKILL)  # a fresh worker takes its place
        while not any(
            "bootstrap" in line for pid, line in list(watch.lines.items()) if pid not in workers
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        study.send_signal(signal.SIGINT)
        out, _ = study.communicate(timeout=60)
    finally:
        study.kill()
    watch.over.set()
    assert watch.found == {}
    assert study.returncode == 130, out
    assert SECRET not in out
    again = f"python -m search.study {' '.join(words)} --storage 'postgresql://guarded@/guarded?"
    assert f"Go on with: {again}host=/" in out
    assert "$SEARCH_STORAGE" in out
    report = ["search.report", "--formats", "svg"]
    for words in (["search.study", "--status"], report, ["search.study", "--studdy"]):
        process = run(tmp_path, *words, SEARCH_STORAGE=guarded)
        out, _ = process.communicate(timeout=90)
        assert process.returncode == (2 if "--studdy" in words else 0), out
        assert SECRET not in out
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".html" for path in written)
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    with closing(open_database(guarded)) as db, db.engine.connect() as connection:
        stored = "".join(
            repr(connection.exec_driver_sql(f"SELECT * FROM {table}").all())
            for table in inspect(connection).get_table_names()
        )
        note = get_note(optuna.load_study(study_name="small-digits", storage=db.optuna))
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
def test_errors_about_arguments(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from search import study
    from search.terminal import commands

    monkeypatch.setattr(sys, "argv", ["search", *words])
    with pytest.raises(SystemExit) as caught:
        commands.run(study.main)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    assert "error:" in printed.err


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
def test_the_command_to_go_on_with(
    given: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["cnn-search go"])
    monkeypatch.delenv("SEARCH_STORAGE", raising=False)
    assert same_command(given) == f"cnn-search {shown}"
    monkeypatch.setenv("SEARCH_STORAGE", f"postgresql://me:{SECRET}@host/db")  # not of all shells
    if not shown.startswith("go --storage"):
        assert " --storage postgresql://me@host/db  (the password" in same_command(given)


def test_a_text_that_quotes_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:p\tw d@host/db"
    monkeypatch.setattr(sys, "argv", ["x", "--storage", url])
    for text in (f"unknown {url}", f"unknown {url!r}", f"unknown {' '.join(url.split())}"):
        assert "postgresql://me:***@host/db" in hide_passwords(text)
        assert "w d" not in hide_passwords(text)
