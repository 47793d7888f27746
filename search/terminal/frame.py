"""One frame of the live view: a study at a glance, in 80 columns or more.

Only the terminal's own foreground, bold, dim, green and red are used: they are readable on dark and
light backgrounds. User input cannot become markup, because none is parsed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.analysis.comparison_words import standing_of_arms
from search.analysis.findings import named
from search.analysis.measures import objective_in_words
from search.analysis.time_left import epochs_trained, expected_epochs, time_left
from search.analysis.wording import (
    ENDED,
    WORDS,
    all_counts,
    data_in_words,
    flat_in_words,
    percent,
    printable,
    short_config,
)
from search.sampling.registry import epoch_budget
from search.spec.recipe import PARTIAL_EPOCH
from search.store.views import State, StudyView, TrialView
from search.terminal.status import time_left_in_words
from search.terminal.summary import gain_in_words, score_at_epoch

OTHER_LINES = 10  # of a frame: all except the table's rows and the line of the trial ahead
MOST_REST, LEAST_REST = 5, 2  # rows of ended or paused trials
LEAST_TRIALS = 6  # lines that arms leave for trials
STYLES: dict[State, str] = {"complete": "green", "failed": "red"}


def frame(view: StudyView, *, height: int, elapsed: float) -> RenderableType:
    """The study's current state, in at most `height` lines (if that is 14 or more), `elapsed`
    seconds after this command began."""
    running, rest = view.in_state("running"), ended_or_paused(view)
    room = height - OTHER_LINES - (view.ahead is not None)
    arms = standing_of_arms(view)[: max(0, room - LEAST_TRIALS)]
    room -= len(arms)
    rest = rest[: max(LEAST_REST, min(MOST_REST, room - len(running)))]
    parts: list[RenderableType] = [
        _line((printable(view.name), "bold"), ("  " + data_in_words(view), "")),
        _line((printable(view.hardware), "dim")),
        _bar(view, elapsed),
        _line((all_counts(view) + flat_in_words(view), "")),
    ]
    parts += [_line((line, "" if rank > 1 else "dim")) for rank, line in enumerate(arms)]
    if running or rest:
        parts += ["", _table([*running[: max(1, room - len(rest))], *rest], view)]
    return Group(*parts, *_best(view), "")  # a line of its own for the cursor, and for ^C


def ended_or_paused(view: StudyView) -> list[TrialView]:
    """Ended and paused trials, the latest first."""

    def since(trial: TrialView) -> float:
        if trial.finished is not None:
            return trial.finished.timestamp()
        return trial.reports[-1].reported_at if trial.reports else 0.0

    return sorted(view.in_state(*ENDED, "paused"), key=lambda t: (since(t), t.number), reverse=True)


def outcome(trial: TrialView) -> str:
    """`complete`, `pruned at epoch 2`, `failed`; the partial-epoch validation is in epoch 1."""
    if trial.state not in ("pruned", "paused"):
        return WORDS[trial.state]
    where = f"at epoch {len(trial.curve)}" if trial.curve else "in epoch 1"
    return f"{trial.state} {where}"


def epochs_done(trial: TrialView, view: StudyView) -> str:
    """Epochs out of the maximum: `3/12`; after the partial-epoch validation `0.3/12`."""
    early = trial.partial_epoch is not None and not trial.curve
    return f"{f'{PARTIAL_EPOCH:.1f}' if early else len(trial.curve)}/{view.spec.epochs}"


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _bar(view: StudyView, elapsed: float) -> Table:
    done, total = view.finished, view.spec.trials
    share = done / total
    if done < total and epoch_budget(view.spec) is not None:
        share = sum(map(epochs_trained, view.trials)) / (total * expected_epochs(view.spec))
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_row(
        ProgressBar(
            1.0, min(share, 1.0), style="dim", complete_style="green", finished_style="green"
        ),
        f"{done}/{total} trials  {timedelta(seconds=int(elapsed))} elapsed  "
        f"{time_left_in_words(time_left(view))}",
    )
    return grid


def _table(trials: Sequence[TrialView], view: StudyView) -> Table:
    """Value and accuracy are those of the latest report, on validation images."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    value = view.spec.value.word.split()[-1]
    for name, width in {"trial": 5, "state": 20, value: 7, "accuracy": 8}.items():
        table.add_column(
            name, width=width, justify="left" if name == "state" else "right", no_wrap=True
        )
    table.add_column("configuration", ratio=1, no_wrap=True, overflow="ellipsis")
    for trial in trials:
        latest = trial.reports[-1] if trial.reports else None
        state = Text(outcome(trial), STYLES.get(trial.state, ""))
        if trial.state == "running":
            state = Text(epochs_done(trial, view), "bold")
        about = Text(short_config(trial.config) if trial.config else "", "dim")
        if trial.state == "failed":
            about = Text(printable(trial.reason or "for an unknown reason"), "red")
        table.add_row(
            str(trial.number),
            state,
            objective_in_words(view, latest.value) if latest else "",
            percent(1 - latest.validation_error) if latest else "",
            about,
        )
    return table


def _best(view: StudyView) -> Iterator[RenderableType]:
    """After an empty line: the best trial, the one ahead of it, and what was gained."""
    leaders = {"best    ": view.best, "ahead   ": view.ahead}
    if any(leaders.values()):
        yield ""
    for label, one in leaders.items():
        if one is not None:
            score = f": {score_at_epoch(one, view)}"
            yield _line((label, "dim"), (named(one), "bold green"), (score, ""))
    if (gain := gain_in_words(view)) is not None:
        yield _line(("gained  ", "dim"), (gain, ""), (" (against the baseline)", "dim"))
