"""Progress: plain lines, and the live view in a real terminal."""

from __future__ import annotations

import io
import os
import pickle
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search.store.views import StudyView
from search.terminal.progress import can_be_live, show_progress
from tests.search.made_up_views import study_view, trial_view

ROOT = Path(__file__).parents[3]


class Feed:
    """A study that changes on request and counts how often it was read."""

    def __init__(self, view: StudyView) -> None:
        self.view: StudyView | Exception = view
        self.reads = 0

    def __call__(self) -> StudyView:
        self.reads += 1
        if isinstance(self.view, Exception):
            raise self.view
        return self.view

    def change(self, view: StudyView | Exception) -> None:
        """Also waits until that was shown."""
        self.view = view
        self.pass_time()

    def pass_time(self, reads: int = 3) -> None:
        until, deadline = self.reads + reads, time.monotonic() + 60
        while self.reads < until:
            assert time.monotonic() < deadline
            time.sleep(0.001)


class Output(Console):
    def __init__(self) -> None:
        super().__init__(file=io.StringIO(), width=80)

    def lines(self) -> list[str]:
        """The lines without the time of day at their start."""
        assert isinstance(self.file, io.StringIO)
        lines = [re.split(r"^\d\d:\d\d:\d\d ", it) for it in self.file.getvalue().splitlines()]
        return [line for _, line in lines]


@pytest.fixture
def output() -> Output:
    return Output()


def showing(feed: Feed, output: Output, *, heartbeat: float = 60.0) -> AbstractContextManager[None]:
    return show_progress(feed, console=output, interval=0.002, heartbeat=heartbeat)


def test_a_line_for_each_trial_that_ends(output: Output) -> None:
    baseline = trial_view(0, [0.4], is_baseline=True)
    running = trial_view(1, [0.5], state="running")
    failed = trial_view(2, state="failed", reason="out of\nmemory \x1b[31m")
    pruned, best = replace(running, state="pruned"), trial_view(3, [0.3])
    feed = Feed(study_view([baseline, running]))
    with showing(feed, output):
        feed.pass_time()
        feed.change(study_view([baseline, pruned]))
        feed.change(study_view([baseline, pruned, failed, best]))
        feed.view = study_view([baseline, pruned, failed, best, trial_view(4, [0.4])])
    begins = (
        "fashion: Fashion-MNIST, 50 000 training and 10 000",
        "best is trial 0, the baseline itself: loss 0.4000, accuracy 86.67 % ± 0.34 "
        "(sampling); 1/50 trials (1 complete), about",  # the baseline had ended before
        "trial 1 pruned at epoch 1: loss 0.5000, accuracy 83.33 % ± 0.37 (sampling)",
        "2/50 trials (1 complete, 1 pruned), about",  # the best is as printed before
        "trial 2 failed: out of",
        "trial 3 complete: loss 0.3000",
        "best is trial 3: loss 0.3000",
        "trial 4 complete",  # though it ended with the study
        "4/50 trials (3 complete, 1 pruned, 1 failed), ",
    )
    for line, begin in zip(output.lines(), begins, strict=True):
        assert line.startswith(begin)
    assert re.search(r"left, give or take \d+ %$", output.lines()[3])
    assert "\x1b" not in "".join(output.lines())


def test_a_line_for_each_trial_that_pauses(output: Output) -> None:
    feed = Feed(study_view([trial_view(0, early=0.9, state="running")]))
    with showing(feed, output):
        feed.pass_time()
        feed.change(study_view([trial_view(0, early=0.9, state="paused")]))
        assert output.lines()[2].startswith("trial 0 paused in epoch 1: loss 0.9000, accuracy")
        feed.change(study_view([trial_view(0, [0.5], early=0.9, state="paused")]))
        assert output.lines()[4].startswith("trial 0 paused at epoch 1: loss 0.5000, accuracy")
        assert output.lines()[5].startswith("ahead is trial 0: loss 0.5000, accuracy")
        assert "epoch 1 of 1 so far; " in output.lines()[5]
        assert "; 0/50 trials (0 complete, 1 paused), " in output.lines()[5]


def test_heartbeats_are_no_more_frequent_than_requested(output: Output) -> None:
    feed = Feed(study_view([trial_view(4, [0.5, 0.45], state="running")]))
    with showing(feed, output, heartbeat=0.1):
        started = time.monotonic()
        while len(output.lines()) < 4:
            assert time.monotonic() - started < 60
            time.sleep(0.001)
        assert time.monotonic() - started >= 0.18
    assert output.lines()[2].startswith("0/50 trials (0 complete)")


def test_failing_reads_are_tolerated(output: Output, capfd: pytest.CaptureFixture[str]) -> None:
    feed = Feed(study_view([]))
    feed.view = RuntimeError("the database\nis away")
    with showing(feed, output):
        feed.pass_time(20)
        feed.change(study_view([trial_view(0, [0.4])]))
        assert any("; 1/50 trials" in line for line in output.lines())
        feed.change(RuntimeError(""))
    assert output.lines()[0] == "no update: the database is away"
    assert len([line for line in output.lines() if "no update" in line]) == 1
    output.file.close()
    with showing(feed, output):  # a closed console does no harm
        feed.pass_time()
    assert capfd.readouterr() == ("", "")


def test_a_slow_terminal_does_not_lengthen_the_pauses(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses, wait = list[float](), threading.Event.wait

    def noted(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "progress" and timeout is not None:
            pauses.append(timeout)
        return wait(event, timeout)

    monkeypatch.setattr(threading.Event, "wait", noted)
    monkeypatch.setattr(output, "print", lambda *_, **_options: time.sleep(0.2))
    feed = Feed(study_view([]))
    with showing(feed, output, heartbeat=0):
        feed.pass_time()
    assert min(pauses) < 3  # not 4 s each


def test_a_hanging_read_does_not_delay_the_end(output: Output) -> None:
    database_is_back, inside = threading.Event(), threading.Event()

    def read() -> StudyView:
        inside.set()
        database_is_back.wait(60)
        return study_view([])

    with show_progress(read, console=output):
        inside.wait(60)
        left = time.monotonic()
    assert time.monotonic() - left < 5
    database_is_back.set()
    for thread in threading.enumerate():
        if thread.name == "progress":
            thread.join(60)
    assert output.lines() == []  # nothing is printed after the end


# In a real terminal.

CHILD = """
import pickle, sys, time, warnings
from search.terminal.commands import console, run
from search.terminal.progress import show_progress
view = pickle.load(open(sys.argv[1], "rb"))
def main(argv):
    with show_progress(lambda: view, console=console(), interval=0.02):
        print("a result", flush=True)
        warnings.warn("something is odd")
        time.sleep(60)
run(main)
"""
CURSOR = re.compile(r"\x1b\[\?25[hl]")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a pseudo-terminal; the second is the process's."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def read_until(end: int, text: str, *, quiet: float | None = None) -> str:
    """What was printed up to `text`, and then until nothing came for `quiet` seconds."""
    printed, deadline = "", time.monotonic() + 60
    while text not in printed or (quiet is not None and select.select([end], [], [], quiet)[0]):
        assert time.monotonic() < deadline, printed
        if select.select([end], [], [], 0.1)[0]:
            printed += os.read(end, 65536).decode()
    return printed


def test_the_live_view_in_a_terminal_and_ctrl_c(
    small_study: StudyView, tmp_path: Path, terminal: tuple[int, int]
) -> None:
    (tmp_path / "view").write_bytes(pickle.dumps(small_study))
    variables = {key: value for key, value in os.environ.items() if key not in ("CI", "NO_COLOR")}
    variables |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "PYTHONPATH": str(ROOT)}
    ours, theirs = terminal
    with (tmp_path / "results").open("w") as results:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "view")],
            stdin=subprocess.DEVNULL,
            stdout=results,
            stderr=theirs,
            env=variables,
        )
    try:
        printed = read_until(ours, "something is odd")
        printed += read_until(ours, "best    ")
        # Visible already now, so that no kill can leave it hidden.
        assert CURSOR.findall(printed)[-1] == "\x1b[?25h"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        process.wait()
    printed += read_until(ours, "", quiet=0.2)
    assert "6/50 trials" in printed
    assert "Traceback" not in printed
    assert "KeyboardInterrupt" not in printed
    assert CURSOR.findall(printed)[-1] == "\x1b[?25h"
    assert CURSOR.sub("", printed).endswith("\n")
    # Output to a file is not drawn into the view.
    assert (tmp_path / "results").read_text() == "a result\n"
    assert "a result" not in printed


@pytest.mark.parametrize(
    ("term", "ci", "live"), [("xterm", "", True), ("dumb", "", False), ("xterm", "true", False)]
)
def test_which_terminals_get_a_live_view(
    term: str, ci: str, live: bool, terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("TERM", term)
    with os.fdopen(os.dup(terminal[1]), "w") as file:
        assert can_be_live(Console(file=file)) is live
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert can_be_live(Console(file=io.StringIO())) is False
