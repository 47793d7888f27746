"""Fresh processes run the code of the one that starts them, and say why they ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.running import fresh, team
from search.running.fresh import ErrorOutput, cause_of_death
from search.running.team import MAX_DEATHS, Team
from search.store.errors import StudyBrokenError

ROOT = Path(__file__).parents[3]
PROBE = """
import json, sys
import data.errors, models, search
report = {name: sys.modules[name].__file__ for name in ("data", "data.errors", "models", "search")}
print(json.dumps({**report, "path": sys.path, "said": sys.argv[1:], "heard": sys.stdin.read()}))
"""
PARENT = """
import sys
sys.path.insert(0, {package!r})
import search
import data.errors, models
sys.path.insert(0, {project!r})  # what is loaded already stays what it is
import subprocess
from search.running.fresh import ErrorOutput, start_fresh
child = start_fresh("search.probe", "a b", errors=ErrorOutput(), stdout=subprocess.PIPE)
out, _ = child.communicate(b"the rest")
sys.stdout.write(out.decode())
print(__import__("json").dumps(sys.path))
sys.exit(child.returncode)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A second copy of the code, which has a module `search.probe` more."""
    folder = tmp_path / "package é"
    for name in ("data", "models", "search"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("raw", "__pycache__")
        )
    (folder / "search" / "probe.py").write_text(PROBE)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A person's own, with names that are ours and the standard library's."""
    folder = tmp_path / "project"
    for name in ("models", "search"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    for name in ("data.py", "runpy.py"):
        (folder / name).write_text("raise SystemExit('not ours')\n")
    return folder


def test_it_has_the_path_and_the_packages_of_its_parent(package: Path, project: Path) -> None:
    program = package.parent / "program.py"
    program.write_text(PARENT.format(package=str(package), project=str(project)))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # another version of ours, as it were
    done = subprocess.run(
        [sys.executable, str(program)], cwd=project, env=env, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    probe, path = map(json.loads, done.stdout.splitlines())
    assert probe == {
        "data": str(package / "data" / "__init__.py"),
        "data.errors": str(package / "data" / "errors.py"),
        "models": str(package / "models" / "__init__.py"),
        "search": str(package / "search" / "__init__.py"),
        "path": path,
        "said": ["a b"],
        "heard": "the rest",
    }
    assert path[:2] == [str(project), str(package)]


def test_it_leaves_when_its_parent_dies_before_it_begins() -> None:
    script = ROOT / "search" / "running" / "same_code.py"
    done = subprocess.run(
        [sys.executable, "-P", str(script), "-m", "search.worker"], input=b"", capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_standard_error_is_passed_on_and_its_end_kept(capsys: pytest.CaptureFixture[str]) -> None:
    errors = ErrorOutput()
    words = "import sys; sys.stderr.write('Überhaupt\\n' * 5000 + 'why\\n\\n'); sys.stderr.flush()"
    wait = "input(); print('x' * 1000, file=sys.stderr)"
    child = subprocess.Popen(
        [sys.executable, "-c", f"{words}; {wait}"], stdin=subprocess.PIPE, stderr=errors.fileno()
    )
    shown = ""
    while "why" not in shown:  # while it runs
        errors.pass_on()
        shown += capsys.readouterr().err
    assert shown == "Überhaupt\n" * 5000 + "why\n\n"
    child.communicate(b"\n")
    assert errors.close() == "x" * 300
    assert capsys.readouterr().err == "x" * 1000 + "\n"


def test_a_process_that_says_nothing() -> None:
    assert ErrorOutput().close() == ""


@pytest.mark.parametrize(
    ("code", "line", "says"),
    [
        (1, "ImportError: x", "exit code 1: ImportError: x"),
        (1, "", "exit code 1, without a word"),
        (-signal.SIGSEGV, "Fatal Python error", "SIGSEGV: Fatal Python error"),
        (-signal.SIGKILL, "a warning of long ago", "SIGKILL: is there enough memory?"),
        (137, "", "exit code 137: is there enough memory?"),
    ],
)
def test_why_it_died(code: int, line: str, says: str) -> None:
    assert cause_of_death(code, line) == says


def test_a_team_whose_workers_die_before_there_is_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*words: str, **more: Any) -> Any:
        process = fresh.start_fresh(*words, **more)
        process.wait()
        assert process.stdin is not None
        process.stdin.write(b"what a pipe takes no more")
        return process

    monkeypatch.setattr(fresh, "SCRIPT", Path("no such file"))
    monkeypatch.setattr(team, "start_fresh", start)
    with Team(url="sqlite:///x.db", devices=["cpu"], data_dir=Path(), runs_dir=None, threads=1):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="a file in memory is Linux's")
def test_a_full_disk_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    errors = ErrorOutput()
    os.write(errors.fileno(), b"why\n")
    assert errors.close() == "why"


def dying(program: str) -> Callable[..., Any]:
    """In place of `start_fresh`."""

    def start(*_: str, errors: ErrorOutput, **__: Any) -> Any:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.PIPE,
            stderr=errors.fileno(),
        )

    return start


@pytest.mark.parametrize(
    ("program", "says", "guess"),
    [
        ("raise ValueError('no such thing')", "exit code 1: ValueError: no such thing", False),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL: is there enough memory?", True),
    ],
)
def test_a_team_says_why_its_workers_die(
    program: str,
    says: str,
    guess: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(team, "start_fresh", dying(program))
    crew = Team(url="sqlite:///x.db", devices=["cpu"], data_dir=Path(), runs_dir=None, threads=1)

    def run() -> None:
        with crew:
            crew.begin("s", lambda: 0)
            while crew.watch():
                time.sleep(0.01)

    with pytest.raises(StudyBrokenError) as caught:
        run()
    assert f"{MAX_DEATHS} workers died" in str(caught.value)
    assert says in str(caught.value)
    assert ("memory" in str(caught.value)) == guess
    assert capsys.readouterr().err.count("ValueError") == (0 if guess else MAX_DEATHS)
