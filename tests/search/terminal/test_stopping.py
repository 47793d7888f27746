"""Ctrl-C, in a notebook and in commands, even if Python loses the exception that it raises.

Then it is not reported either, or pytest would make that an error.
"""

import importlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from search import finalize, study, worker
from search.running.results import load_study
from search.store import StorageError
from search.terminal.stopping import StopOnSignal, interrupts_set
from tests.search.conftest import Main


@pytest.fixture(autouse=True)
def _as_in_a_notebook() -> Iterator[None]:
    """Earlier tests may have left another handler for Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def lose_an_interrupt() -> None:
    del [Interrupted()][0]


@pytest.mark.parametrize("error", [None, RuntimeError("stopped")])
def test_an_interrupt_that_a_destructor_swallows(error: Exception | None) -> None:
    event = threading.Event()

    def work() -> None:
        with interrupts_set(event):
            lose_an_interrupt()
            assert event.is_set()
            if error is not None:  # raised by work that was stopped
                raise error

    with pytest.raises(KeyboardInterrupt) as raised:
        work()
    assert raised.value.__cause__ is error
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ordinary_interrupt_and_none() -> None:
    event = threading.Event()
    with pytest.raises(KeyboardInterrupt), interrupts_set(event):
        signal.raise_signal(signal.SIGINT)
    assert event.is_set()
    with pytest.raises(ValueError, match="its own"), interrupts_set(threading.Event()):
        raise ValueError("its own")


@pytest.mark.parametrize("seconds", [0, 60])
def test_an_import_is_not_interrupted(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `import pandas` would fail for as long as the notebook is open."""
    name = f"interrupted_{seconds}"
    text = "import signal\nsignal.raise_signal(signal.SIGINT)\ndone = True\n"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    event, started, imported = threading.Event(), time.monotonic(), []

    def work() -> None:
        with interrupts_set(event):
            imported.append(importlib.import_module(name))
            assert event.is_set()
            time.sleep(seconds)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - started < 5
    assert imported[0].done
    time.sleep(0.2)  # it is raised once


def test_a_signal_raises_until_the_work_asks_for_it() -> None:
    reached = []
    with StopOnSignal() as loading:
        signal.raise_signal(signal.SIGTERM)
        reached.append("after loading")
    with StopOnSignal() as training:
        assert not training.is_set()
        signal.raise_signal(signal.SIGINT)
        reached.append("the end of the epoch")
    assert reached == ["the end of the epoch"]
    assert (loading.exit_code, training.exit_code) == (143, 130)
    assert training.is_set()
    with pytest.raises(KeyboardInterrupt), StopOnSignal():
        raise KeyboardInterrupt  # of something else


def test_a_signal_that_a_destructor_swallows_is_not_forgotten() -> None:
    with StopOnSignal() as stopping:
        lose_an_interrupt()
        assert stopping.is_set()
    assert stopping.exit_code == 130


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("main", "words"),
    [
        (study.main, ["--dataset", "digits", "--study", "new", "--workers", "1"]),
        (worker.main, ["--study", "digits", "--device", "cpu"]),
        (finalize.main, ["--study", "digits", "--device", "cpu"]),
    ],
)
def test_commands_end_while_they_load_images(
    main: Main, words: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it went on")

    monkeypatch.setattr("numpy.load", load)
    before = load_study("digits")
    assert main(list(words)) == 143
    assert load_study("digits") == before
    with pytest.raises(StorageError, match="no study 'new'"):
        load_study("new")


def test_sigterm_ends_the_first_process_of_a_container_while_it_loads() -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if sys.platform != "linux" or subprocess.run([*unshare, "true"], check=False).returncode != 0:
        pytest.skip("this system makes no containers for users")
    command = [*unshare, sys.executable, "-m", "search.worker", "--study", "none"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "Loading PyTorch" in process.stderr.readline()
        (first,) = psutil.Process(process.pid).children()
        first.terminate()
        assert process.stderr.read() == ""
        assert process.wait() == 143
