"""One frame of the live view: a study at a glance, in 80 columns and in more.

Only the terminal's own foreground, bold, dim, green and red are used: they can be read on dark and
on light ground. What people typed cannot become markup, since none is parsed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from rich.console import Group, JustifyMethod, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.analysis.describe import short_config
from search.analysis.findings import latest_ended, named
from search.analysis.measures import images_per_second
from search.analysis.time_left import TimeLeft
from search.analysis.wording import (
    WORDS,
    all_counts,
    counts_in_words,
    data_in_words,
    grouped,
    percent,
    printable,
)
from search.spec.recipe import EARLY_LOOK
from search.store.views import State, StudyView, TrialView
from search.terminal.summary import gain_in_words, score_in_words, time_left_in_words

OTHER_LINES = 10  # of a frame: all but the rows of its table
MOST_ENDED, LEAST_ENDED = 5, 2
COLUMNS: tuple[tuple[str, int, JustifyMethod], ...] = (
    ("trial", 5, "right"),
    ("state", 20, "left"),
    ("loss", 6, "right"),
    ("best", 6, "right"),
    ("accuracy", 8, "right"),
)
STYLES: dict[State, str] = {"complete": "green", "pruned": "", "failed": "red"}


def frame(view: StudyView, *, height: int, elapsed: float, left: TimeLeft | None) -> RenderableType:
    """The study as it stands, in at most `height` lines (if that is 14 or more).

    Args:
        elapsed: seconds since this command began.
        left: until the study has its total.
    """
    running, ended = view.in_state("running"), latest_ended(view)
    room = height - OTHER_LINES
    ended = ended[: max(LEAST_ENDED, min(MOST_ENDED, room - len(running)))]
    shown = running[: max(1, room - len(ended))]
    parts: list[RenderableType] = [
        _line((view.name, "bold"), ("  " + data_in_words(view), "")),
        _line((printable(view.hardware), "dim")),
        _bar(view, elapsed, left),
        _line((f"{all_counts(view)}{_speed(view)}", "")),
    ]
    if shown or ended:
        parts += ["", _table(shown, ended, view)]
    if view.best is not None:
        parts += ["", *_best(view, view.best)]
    return Group(*parts, "")  # the cursor waits on a line of its own, and so does Ctrl-C's ^C


def outcome(trial: TrialView) -> str:
    """`complete`, `pruned at epoch 2`, `failed`; the early look is within epoch 1."""
    if trial.state != "pruned":
        return WORDS[trial.state]
    return f"pruned at epoch {len(trial.curve)}" if trial.curve else "pruned in epoch 1"


def epochs_done(trial: TrialView, view: StudyView) -> str:
    """Of those that are trained at most: `3/12`; after the early look `0.3/12`."""
    early = trial.early_look is not None and not trial.curve
    return f"{f'{EARLY_LOOK:.1f}' if early else len(trial.curve)}/{view.spec.epochs}"


def totals_in_words(view: StudyView) -> str:
    """`17/50 trials (6 complete, 11 pruned), 6 830 images/s`."""
    return f"{view.finished}/{view.spec.trials} trials ({counts_in_words(view)}){_speed(view)}"


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _bar(view: StudyView, elapsed: float, left: TimeLeft | None) -> Table:
    done, total = view.finished, view.spec.trials
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(ratio=1)
    for _ in range(3):
        grid.add_column(no_wrap=True)
    grid.add_row(
        ProgressBar(total, done, style="dim", complete_style="green", finished_style="green"),
        Text(f"{done}/{total} trials", "bold"),
        f"{timedelta(seconds=int(elapsed))} elapsed",
        Text(time_left_in_words(view, left), "bold"),
    )
    return grid


def _speed(view: StudyView) -> str:
    speed = images_per_second(view)
    return "" if speed is None else f", {grouped(round(speed))} images/s"


def _table(running: Sequence[TrialView], ended: Sequence[TrialView], view: StudyView) -> Table:
    """Loss and accuracy are those of the latest report, on validation images."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name, width, side in COLUMNS:
        table.add_column(name, width=width, justify=side, no_wrap=True)
    table.add_column("configuration", ratio=1, no_wrap=True, overflow="ellipsis")
    for trial in running:
        table.add_row(*_row(trial, Text(epochs_done(trial, view), "bold")))
    for trial in ended:
        table.add_row(*_row(trial, Text(outcome(trial), STYLES[trial.state])))
    return table


def _row(trial: TrialView, state: Text) -> Iterator[str | Text]:
    latest, best = (trial.reports[-1] if trial.reports else None), trial.best or trial.early_look
    yield str(trial.number)
    yield state
    yield f"{latest.validation_loss:.4f}" if latest else ""
    yield f"{best.validation_loss:.4f}" if best else ""
    yield percent(1 - latest.validation_error) if latest else ""
    if trial.state == "failed":
        yield Text(printable(trial.reason or "for an unknown reason"), STYLES["failed"])
    else:
        yield Text(short_config(trial.config) if trial.config else "", "dim")


def _best(view: StudyView, best: TrialView) -> Iterator[Text]:
    assert best.best is not None
    where = f", epoch {best.best.epoch}/{len(best.curve)}"
    yield _line(
        ("best    ", "dim"),
        (named(best), "bold green"),
        (f": {score_in_words(best, view)}{where}", ""),
    )
    gain = gain_in_words(view)
    if gain is not None:
        yield _line(("gained  ", "dim"), (gain, ""), (" (against the baseline)", "dim"))
