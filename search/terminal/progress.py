"""Progress of a study while it runs: a live view on a terminal, plain lines elsewhere.

It reads only the database, so it shows the work of all workers, wherever they are.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from search.analysis.findings import named
from search.analysis.time_left import time_left
from search.analysis.wording import ENDED, counts_in_words, data_in_words, flat_in_words, printable
from search.store import StudyGoneError
from search.store.views import StudyView
from search.terminal.commands import clock, one_line
from search.terminal.frame import ended_or_paused, frame, outcome
from search.terminal.status import time_left_in_words
from search.terminal.summary import score_at_epoch, score_in_words

LEAVE_SECONDS = 1.0  # for a read that waits for the database; after that it is abandoned
POLLING_SHARE = 0.05  # of the time, at most
NOTEBOOK_LINES, NOTEBOOK_WIDTH = 20, 110
# Rich's dim, green and red, readable on light and on dark backgrounds.
ON_ANY_GROUND = {
    "#7f7f7f": "opacity: 0.75",
    "#008000": "color: #238636",
    "#800000": "color: #d1383d",
}
IN_PAGE = '<pre style="line-height: normal; white-space: pre">{code}</pre>'
LONGEST_PAUSE = 15.0  # seconds between two reads, however long they take


class Progress:
    """Context manager: shows the study for as long as a `with` block runs.

    A separate thread polls the study. Any failure there (a locked database, a closed terminal) is
    at most a line in the view, and is retried at the next poll. What other code prints meanwhile to
    `sys.stderr` appears above the live view.

    Args:
        read: returns the study's current state; called from the thread.
        console: where to show it: standard error, see `search.terminal.commands.console`.
        interval: seconds between two reads; longer if reading is slow, so that it stays a small
            part of the work.
        heartbeat: maximum seconds between plain lines.
    """

    def __init__(
        self,
        read: Callable[[], StudyView],
        *,
        console: Console,
        interval: float = 1.0,
        heartbeat: float = 30.0,
    ) -> None:
        self._read, self._interval = read, interval
        self._show: _LiveView | _NotebookView | _PlainLines
        if console.is_jupyter:
            self._show = _NotebookView()
        else:
            live = can_be_live(console)
            self._show = _LiveView(console) if live else _PlainLines(console, heartbeat)
        self._over = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._poll, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._show.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._over.set()
            self._thread.join(LEAVE_SECONDS)
        finally:  # after a second Ctrl-C, too
            self._closed = True
            self._show.stop()

    def _poll(self) -> None:
        over = False
        while not self._closed:
            began = time.monotonic()
            try:
                try:
                    view = self._read()
                finally:
                    pause = min(LONGEST_PAUSE, (time.monotonic() - began) / POLLING_SHARE)
                if not self._closed:
                    self._show(view)
            except StudyGoneError:
                return  # the command ends with this error, and reports it
            except Exception as error:  # of any kind: the study must run on without its view
                with contextlib.suppress(Exception):
                    if not self._closed:
                        self._show.trouble(one_line(str(error)) or type(error).__name__)
            if over:
                return
            over = self._over.wait(max(self._interval, pause))  # then once more, for the end


def can_be_live(console: Console) -> bool:
    """Whether the console is a terminal that can move its cursor, and not the log of a CI job."""
    is_terminal = console.is_terminal and console.file.isatty()
    return is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")


class _LiveView:
    def __init__(self, console: Console) -> None:
        self._began = time.monotonic()
        self._console = console
        self._frame: RenderableType = Text("reading the study ...", "dim")
        self._live = Live(
            self._frame,
            console=console,
            auto_refresh=False,
            vertical_overflow="crop",
            # Lines printed to the same terminal go above the view; redirected output is left alone.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
        )

    def start(self) -> None:
        self._live.start()
        # Never hidden, because after SIGKILL nothing would show it again.
        self._console.show_cursor(True)

    def stop(self) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed
            self._live.stop()

    def __call__(self, view: StudyView) -> None:
        elapsed = time.monotonic() - self._began
        self._frame = frame(view, height=self._console.height - 1, elapsed=elapsed)
        self._live.update(self._frame, refresh=True)

    def trouble(self, what: str) -> None:
        line = Text(f"no update: {what}", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(self._frame, line), refresh=True)


def to_html(*parts: RenderableType) -> str:
    """HTML of what rich shows, in a notebook's own colours; all text escaped."""
    console = Console(file=io.StringIO(), record=True, width=NOTEBOOK_WIDTH, force_jupyter=False)
    console.print(*parts, sep="\n")
    page = console.export_html(inline_styles=True, code_format=IN_PAGE)
    for color, seen in ON_ANY_GROUND.items():
        page = page.replace(f"color: {color}; text-decoration-color: {color}", seen)
    return page


class _NotebookView:
    """One output of a cell, updated in place: the study's current state and its best trial."""

    def start(self) -> None:
        from IPython.display import HTML, display

        self._began, self._html = time.monotonic(), HTML
        self._handle = display(HTML("reading the study ..."), display_id=True)

    def stop(self) -> None: ...

    def __call__(self, view: StudyView) -> None:
        elapsed = time.monotonic() - self._began
        page = to_html(frame(view, height=NOTEBOOK_LINES, elapsed=elapsed))
        self._handle.update(self._html(page))

    def trouble(self, what: str) -> None: ...  # the last view stays valid


class _PlainLines:
    """A line for each trial that ends or pauses, and a line of totals now and then."""

    def __init__(self, console: Console, heartbeat: float) -> None:
        self._console, self._heartbeat = console, heartbeat
        self._known: set[tuple[int, str]] | None = None  # trials and their outcomes
        self._printed_at = 0.0

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def __call__(self, view: StudyView) -> None:
        rest = {(trial.number, outcome(trial)): trial for trial in ended_or_paused(view)[::-1]}
        known, self._known = self._known, set(rest)
        if known is None:
            self._print(f"{view.name}: {data_in_words(view)}; {printable(view.hardware)}")
        new = [trial for key, trial in rest.items() if known is not None and key not in known]
        for trial in new:
            score = printable(trial.reason or "unknown reason")
            score = score if trial.state == "failed" else score_in_words(trial, view)
            self._print(f"trial {trial.number} {outcome(trial)}: {score}")
        if known is None or new or self._is_due():
            parts = []
            if new and (best := view.best) is not None:
                parts.append(f"best is {named(best)}: {score_in_words(best, view)}")
            if new and (ahead := view.ahead) is not None:
                parts.append(f"ahead is {named(ahead)}: {score_at_epoch(ahead, view)}")
            counts = counts_in_words(view, (*ENDED, "paused"))
            totals = f"{view.finished}/{view.spec.trials} trials ({counts})"
            totals += f", {time_left_in_words(time_left(view))}{flat_in_words(view)}"
            self._print("; ".join([*parts, totals]))

    def trouble(self, what: str) -> None:
        if self._is_due():
            self._print(f"no update: {what}")

    def _print(self, line: str) -> None:
        self._console.print(Text(f"{clock()} {line}"), soft_wrap=True)
        self._printed_at = time.monotonic()

    def _is_due(self) -> bool:
        return time.monotonic() - self._printed_at >= self._heartbeat
