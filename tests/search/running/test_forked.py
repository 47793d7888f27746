"""Copies of this process: how they end, what they hear, and what they leave behind of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from search.running.forked import ForkedProcess
from search.running.fresh import ErrorOutput
from search.running.stopping import StopOnSignal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are copied on Linux only")
SECONDS = 30.0
TRAIN_WITH_THREADS = """
import torch
from search import study
from search.running import joining
from search.training.device import prepare_process
from search.running.forked import ForkedProcess

def train():
    prepare_process(2)
    network = torch.nn.Conv2d(8, 64, 3)
    network(torch.ones(64, 8, 32, 32)).square().mean().backward()
    assert network.weight.grad.isfinite().all()
    assert torch.get_num_threads() == 2

prepare_process()
joining.load_libraries()
copies = [ForkedProcess(train, []) for _ in range(2)]
print([copy.wait(60) for copy in copies])
"""

Start = Callable[..., ForkedProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[ForkedProcess] = []

    def start_one(run: Callable[[], object]) -> ForkedProcess:
        made.append(ForkedProcess(run, [process.stdin for process in made]))
        return made[-1]

    yield start_one
    for process in made:
        process.kill()
        process.wait(SECONDS)
        process.stdin.close()


def write_what_it_hears(path: Path) -> Callable[[], None]:
    def run() -> None:
        path.write_text(sys.stdin.read())

    return run


def test_its_exit_code(start: Start) -> None:
    assert start(lambda: None).wait(SECONDS) == 0
    assert start(lambda: sys.exit(7)).wait(SECONDS) == 7
    assert start(lambda: os._exit(3)).wait(SECONDS) == 3


def test_an_error_is_an_exit_code_and_a_traceback(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("of the copy")

    assert start(fail).wait(SECONDS) == 1
    assert "ValueError: of the copy" in capfd.readouterr().err


def test_the_signal_that_ended_it(start: Start) -> None:
    process = start(lambda: time.sleep(SECONDS))
    assert process.poll() is None
    process.kill()
    assert process.wait(SECONDS) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL


def test_waiting_has_a_limit(start: Start) -> None:
    process = start(lambda: time.sleep(SECONDS))
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.05)


def test_a_signal_ends_it_from_the_start_though_this_process_minds_them(start: Start) -> None:
    with StopOnSignal() as stopping:
        for _ in range(20):
            process = start(lambda: time.sleep(SECONDS))
            process.terminate()
            assert process.wait(SECONDS) == -signal.SIGTERM
    assert stopping.signal is None


def test_this_process_still_gets_its_signals(start: Start) -> None:
    with StopOnSignal() as stopping:
        start(lambda: None)
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.signal == signal.SIGTERM


def test_each_hears_what_it_is_told_and_then_the_end(start: Start, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(3)]
    processes = [start(write_what_it_hears(path)) for path in paths]
    for process, path in zip(processes, paths, strict=True):  # the later ones are still open
        process.stdin.write(path.name.encode())
        process.stdin.close()
        assert process.wait(SECONDS) == 0
        assert path.read_text() == path.name


def test_ctrl_c_in_the_terminal_is_not_for_it(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "session"
    assert start(lambda: path.write_text(str(os.getsid(0)))).wait(SECONDS) == 0
    assert int(path.read_text()) != os.getsid(0)


def test_copies_of_a_command_train_with_several_threads() -> None:
    """OpenMP's threads would not outlive a fork; loading the libraries must not have begun any."""
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_WITH_THREADS],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "[0, 0]\n", done.stderr


def test_what_it_says_at_its_end_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    errors = ErrorOutput()

    def die() -> None:
        os.write(2, b"as a library's own code writes\n")
        raise ValueError("no such thing")

    copy = ForkedProcess(die, [], errors.fileno())
    assert copy.wait(SECONDS) == 1
    copy.stdin.close()
    assert errors.close() == "ValueError: no such thing"
    assert "as a library's own code writes\n" in capsys.readouterr().err
