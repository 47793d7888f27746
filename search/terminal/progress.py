"""Progress of a study while it runs: a live view on a terminal, plain lines elsewhere.

It reads only the database, so it shows the work of all workers, wherever they are.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from search.analysis.findings import named
from search.analysis.time_left import time_left
from search.analysis.wording import ENDED, counts_in_words, data_in_words, flat_in_words, printable
from search.store import StudyGoneError
from search.store.views import StudyView
from search.terminal.commands import CLOCK, one_line
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

Show = Callable[[StudyView | str], None]  # a study's state, or why it cannot be read


@contextmanager
def show_progress(
    read: Callable[[], StudyView],
    *,
    console: Console,
    interval: float = 1.0,
    heartbeat: float = 30.0,
) -> Iterator[None]:
    """Show the study for as long as a `with` block runs.

    A separate thread polls the study. A failed read (a locked database) is at most a line in the
    view, a failure to show it (a closed terminal) not even that; the next poll tries again. What
    other code prints meanwhile to `sys.stderr` appears above the live view.

    Args:
        read: returns the study's current state; called from the thread.
        console: where to show it: standard error, see `search.terminal.commands.console`.
        interval: seconds between two reads; longer if reading is slow, so that it stays a small
            part of the work.
        heartbeat: maximum seconds between plain lines.
    """
    over, closed = threading.Event(), threading.Event()

    def poll(show: Show) -> None:
        is_last = False
        while not closed.is_set():
            began = time.monotonic()
            told: StudyView | str
            try:
                told = read()
            except StudyGoneError:
                return  # the command ends with this error, and reports it
            except Exception as error:  # of any kind: the study must run on without its view
                told = one_line(str(error)) or type(error).__name__
            pause = min(LONGEST_PAUSE, (time.monotonic() - began) / POLLING_SHARE)
            with suppress(Exception):  # the terminal may be closed
                if not closed.is_set():
                    show(told)
            if is_last:
                return
            is_last = over.wait(max(interval, pause))  # then once more, for the end

    if console.is_jupyter:
        shown = _in_notebook()
    else:
        shown = _live(console) if can_be_live(console) else _plain_lines(console, heartbeat)
    with shown as show:
        thread = threading.Thread(target=poll, args=(show,), name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            try:
                over.set()
                thread.join(LEAVE_SECONDS)
            finally:  # after a second Ctrl-C, too
                closed.set()


def can_be_live(console: Console) -> bool:
    """Whether the console is a terminal that can move its cursor, and not the log of a CI job."""
    is_terminal = console.is_terminal and console.file.isatty()
    return is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")


@contextmanager
def _live(console: Console) -> Iterator[Show]:
    began = time.monotonic()
    shown: RenderableType = Text("reading the study ...", "dim")
    live = Live(
        shown,
        console=console,
        auto_refresh=False,
        vertical_overflow="crop",
        # Lines printed to the same terminal go above the view; redirected output is left alone.
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=True,
    )

    def show(told: StudyView | str) -> None:
        nonlocal shown
        if isinstance(told, str):
            line = Text(f"no update: {told}", no_wrap=True, overflow="ellipsis")
            live.update(Group(shown, line), refresh=True)
        else:
            shown = frame(told, height=console.height - 1, elapsed=time.monotonic() - began)
            live.update(shown, refresh=True)

    live.start()
    console.show_cursor(True)  # never hidden, because after SIGKILL nothing would show it again
    try:
        yield show
    finally:
        with suppress(OSError):  # the terminal was closed
            live.stop()


def to_html(*parts: RenderableType) -> str:
    """HTML of what rich shows, in a notebook's own colours; all text escaped."""
    console = Console(file=io.StringIO(), record=True, width=NOTEBOOK_WIDTH, force_jupyter=False)
    console.print(*parts, sep="\n")
    page = console.export_html(inline_styles=True, code_format=IN_PAGE)
    for color, seen in ON_ANY_GROUND.items():
        page = page.replace(f"color: {color}; text-decoration-color: {color}", seen)
    return page


@contextmanager
def _in_notebook() -> Iterator[Show]:
    """One output of a cell, updated in place: the study's current state and its best trial."""
    from IPython.display import HTML, display

    began = time.monotonic()
    output = display(HTML("reading the study ..."), display_id=True)

    def show(told: StudyView | str) -> None:
        if not isinstance(told, str):  # otherwise the last view stays valid
            elapsed = time.monotonic() - began
            output.update(HTML(to_html(frame(told, height=NOTEBOOK_LINES, elapsed=elapsed))))

    yield show


@contextmanager
def _plain_lines(console: Console, heartbeat: float) -> Iterator[Show]:
    """A line for each trial that ends or pauses, with totals and who leads, if that has changed."""
    known: set[tuple[int, str]] | None = None  # trials and their outcomes
    leading: list[str] = []  # as last printed
    printed_at = 0.0

    def say(line: str) -> None:
        nonlocal printed_at
        console.print(Text(f"{time.strftime(CLOCK)} {printable(line)}"), soft_wrap=True)
        printed_at = time.monotonic()

    def show(told: StudyView | str) -> None:
        nonlocal known, leading
        is_due = time.monotonic() - printed_at >= heartbeat
        if isinstance(told, str):
            if is_due:
                say(f"no update: {told}")
            return
        rest = {(trial.number, outcome(trial)): trial for trial in ended_or_paused(told)[::-1]}
        if known is None:
            say(f"{told.name}: {data_in_words(told)}; {told.hardware}")
            new, is_due = [], True
        else:
            new = [trial for key, trial in rest.items() if key not in known]
        known = set(rest)
        for trial in new:
            score = printable(trial.reason or "unknown reason")
            score = score if trial.state == "failed" else score_in_words(trial, told)
            say(f"trial {trial.number} {outcome(trial)}: {score}")
        if new or is_due:
            before, leading = leading, []
            if (best := told.best) is not None:
                leading.append(f"best is {named(best)}: {score_in_words(best, told)}")
            if (ahead := told.ahead) is not None:
                leading.append(f"ahead is {named(ahead)}: {score_at_epoch(ahead, told)}")
            counts = counts_in_words(told, (*ENDED, "paused"))
            totals = f"{told.finished}/{told.spec.trials} trials ({counts})"
            totals += f", {time_left_in_words(time_left(told))}{flat_in_words(told)}"
            say("; ".join([*(part for part in leading if part not in before), totals]))

    yield show
