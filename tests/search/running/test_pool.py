"""Child processes: whose code they run, why they ended, what they leave behind."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from search.running.pool import (
    MOST_QUOTED,
    WATCH_SECONDS,
    ChildProcess,
    WorkerPool,
    stop_all,
)
from search.store import StorageError, StudyBrokenError

ROOT = Path(__file__).parents[3]
SECONDS = 120.0
PROBE = """
import json, os, signal, stat, sys, time
import data.errors, models, search

def report(*said):
    names = ("data", "data.errors", "models", "search")
    files = {name: sys.modules[name].__file__ for name in names}
    seen = {"session": os.getsid(0), "reads a pipe": stat.S_ISFIFO(os.fstat(0).st_mode)}
    print(json.dumps({**files, **seen, "path": sys.path, "said": said}))
    return 7

def fail():
    print("a warning", file=sys.stderr)
    os.write(2, "Überhaupt\\n".encode())
    print("José ± −", file=sys.stderr)
    raise ValueError("no such thing" * 50)

def die():
    print("a warning of long ago", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def sleep():
    print("asleep", flush=True)
    time.sleep(60)

def ignore():
    signal.signal(signal.SIGTERM, lambda *_: None)
    sleep()
"""
PARENT = """
import sys
sys.path.insert(0, {package!r})
import search
import data.errors, models
sys.path.insert(0, {project!r})  # what is loaded already stays what it is
from search.running.pool import ChildProcess, stop_all
show = lambda line: sys.stdout.buffer.write(line)
child = ChildProcess("search.probe:report", "a b", 7, on_line=show)
child.process.wait()
child.poll()
print(__import__("json").dumps(sys.path))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second copy of the code, with an additional module `search.probe`."""
    folder = tmp_path_factory.mktemp("package é")
    ignored = shutil.ignore_patterns("raw", "__pycache__")
    for name in ("data", "models", "search"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "search" / "probe.py").write_text(PROBE)
    return folder


def test_a_child_has_the_path_and_the_packages_of_its_parent(package: Path, tmp_path: Path) -> None:
    for name in ("models", "search"):  # the user's own, with names that are ours
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    for name in ("data.py", "runpy.py"):
        (tmp_path / name).write_text("raise SystemExit('not ours')\n")
    program = package / "program.py"  # without a `__main__` guard
    program.write_text(PARENT.format(package=str(package), project=str(tmp_path)))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # as if it were another version of ours
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=env, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    probe, path = map(json.loads, done.stdout.splitlines())
    assert probe.pop("session") != os.getsid(0)  # Ctrl-C in the terminal does not reach it
    assert probe == {
        "data": str(package / "data" / "__init__.py"),
        "data.errors": str(package / "data" / "errors.py"),
        "models": str(package / "models" / "__init__.py"),
        "search": str(package / "search" / "__init__.py"),
        "path": path,
        "said": ["a b", 7],
        "reads a pipe": False,  # on Windows, importing NumPy would never end
    }
    assert path[:2] == [str(tmp_path), str(package)]


def ended(child: ChildProcess) -> int:
    child.process.wait(SECONDS)
    code = child.poll()
    assert code is not None
    return code


@pytest.fixture
def probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of this process find a module `probe`."""
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("probed")
def test_how_it_ended_and_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")  # as of pipes on Windows
    children = [ChildProcess(f"probe:{name}") for name in ("report", "fail", "die", "nothing")]
    assert [ended(child) for child in children] == [7, 1, -signal.SIGKILL, 1]
    quoted = ("ValueError: " + "no such thing" * 50)[:MOST_QUOTED]
    assert children[1].cause_of_death() == f"exit code 1: {quoted}"
    assert children[2].cause_of_death() == "SIGKILL: is there enough memory?"
    assert "AttributeError" in children[3].cause_of_death()
    err = capsys.readouterr().err
    for words in (
        "a warning\n",
        "Überhaupt\n",
        "José ± −\n",
        "a warning of long ago\n",
        "Traceback",
    ):
        assert words in err


@pytest.mark.usefixtures("probed")
def test_all_are_stopped_even_those_that_ignore_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bytes] = []
    names = ("sleep", "ignore")
    children = [ChildProcess(f"probe:{name}", on_line=said.append) for name in names]
    deadline = time.monotonic() + SECONDS
    while len(said) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    loading = ChildProcess("torch:save")
    stop_all(children[:1])
    monkeypatch.setattr("search.running.pool.LEAVE_SECONDS", 0.5)
    stop_all([*children[1:], loading])
    assert [child.poll() for child in children] == [128 + signal.SIGTERM, -signal.SIGKILL]
    assert loading.poll() in (128 + signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.usefixtures("probed")
def test_a_child_that_died_early_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows does not call it a broken pipe."""

    class Gone(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _: object) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

        def close(self) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            assert self.stdin is not None
            self.stdin.close()
            self.stdin = Gone()  # type: ignore[assignment]

    monkeypatch.setattr(subprocess, "Popen", Popen)
    child = ChildProcess("probe:report")
    assert ended(child) == 1  # it was told nothing
    child.ask_to_stop()


def fake_run(monkeypatch: pytest.MonkeyPatch, count: Callable[[], int]) -> Any:
    """A run in whose study a pool counts so many reports."""
    monkeypatch.setattr("search.running.pool.count_reports", lambda *_: count())
    study = SimpleNamespace(name="s", study_id=1, check=lambda: None)
    done = {"on_change": lambda: None, "check": lambda: None}
    return SimpleNamespace(
        db=SimpleNamespace(url="its database"), study=study, stop=threading.Event(), **done
    )


@pytest.mark.parametrize(
    ("last_words", "says"),
    [
        ("raise ImportError('no such thing')", "exit code 1: ImportError: no such thing"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL: is there enough memory? try fewer"),
    ],
)
def test_a_pool_says_why_its_workers_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_words: str, says: str
) -> None:
    (tmp_path / "torch.py").write_text(last_words)  # workers find this instead of PyTorch
    monkeypatch.syspath_prepend(str(tmp_path))
    reports = iter([1, 2, 2])  # the first two died after an epoch each
    monkeypatch.setattr("search.running.pool.MAX_DEATHS", 2)
    run = fake_run(monkeypatch, lambda: next(reports))
    with pytest.raises(StudyBrokenError) as caught:
        WorkerPool(["cpu"], {}).train(run)
    assert "2 workers died in a row without finishing an epoch" in str(caught.value)
    assert says in str(caught.value)
    assert list(reports) == []


def test_a_pool_survives_an_outage_that_ends_all_its_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It replaces them once the database answers."""
    away = [True, True, False, False, False, False, False, False]  # all three die twice
    asked = list[float]()  # when

    def start(*_: object) -> Any:
        process = SimpleNamespace(wait=lambda _: 0)
        does = {"poll": lambda: 75 if away else 0, "ask_to_stop": lambda: None}
        return SimpleNamespace(process=process, **does)

    def count() -> int:
        asked.append(time.monotonic())
        if away.pop(0):
            raise StorageError("it did not answer") from OperationalError("", {}, OSError())
        return 7

    monkeypatch.setattr("search.running.pool.ChildProcess", start)
    monkeypatch.setattr("search.running.pool.MAX_DEATHS", 2)
    WorkerPool(["cpu"] * 3, {}).train(fake_run(monkeypatch, count))
    assert len(asked) == 8
    assert asked[2] - asked[0] > 2 * 0.9 * WATCH_SECONDS  # not in a tight loop


def test_workers_stop_while_their_pool_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as with drawing figures, which takes seconds on a busy machine."""
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(str(tmp_path))
    pool, run = WorkerPool(["cpu"] * 2, {}), fake_run(monkeypatch, lambda: 0)
    codes: list[int] = []

    def draw() -> None:
        run.stop.set()
        codes.extend(child.process.wait(SECONDS) for _, child in pool._running)

    run.on_change = draw
    pool.train(run)
    assert codes == [128 + signal.SIGTERM] * 2
