"""One frame of the live view: a study at a glance, in 80 columns and in more.

Only the terminal's own foreground, bold, dim, green and red are used: they can be read on dark and
on light ground. What people typed cannot become markup, since none is parsed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.analysis.describe import short_config
from search.analysis.findings import latest_ended, named
from search.analysis.measures import objective_in_words
from search.analysis.time_left import TimeLeft, epochs_trained
from search.analysis.wording import WORDS, all_counts, data_in_words, percent, printable
from search.sampling.registry import epoch_budget
from search.spec.recipe import EARLY_LOOK
from search.store.views import State, StudyView, TrialView
from search.terminal.summary import gain_in_words, score_in_words, time_left_in_words

OTHER_LINES = 10  # of a frame: all but the rows of its table
MOST_ENDED, LEAST_ENDED = 5, 2
COLUMNS = {"trial": 5, "state": 20, "value": 7, "accuracy": 8}  # their widths
STYLES: dict[State, str] = {"complete": "green", "failed": "red"}


def frame(view: StudyView, *, height: int, elapsed: float, left: TimeLeft | None) -> RenderableType:
    """The study as it stands, in at most `height` lines (if that is 14 or more).

    Args:
        elapsed: seconds since this command began.
        left: until the study has its total.
    """
    running, ended = view.in_state("running"), latest_ended(view)
    room = height - OTHER_LINES
    ended = ended[: max(LEAST_ENDED, min(MOST_ENDED, room - len(running)))]
    parts: list[RenderableType] = [
        _line((view.name, "bold"), ("  " + data_in_words(view), "")),
        _line((printable(view.hardware), "dim")),
        _bar(view, elapsed, left),
        _line((all_counts(view), "")),
    ]
    if running or ended:
        parts += ["", _table(running[: max(1, room - len(ended))], ended, view)]
    return Group(*parts, *_best(view), "")  # the cursor waits on a line of its own, as does ^C


def outcome(trial: TrialView) -> str:
    """`complete`, `pruned at epoch 2`, `failed`; the partial-epoch validation is in epoch 1."""
    if trial.state != "pruned":
        return WORDS[trial.state]
    return f"pruned at epoch {len(trial.curve)}" if trial.curve else "pruned in epoch 1"


def epochs_done(trial: TrialView, view: StudyView) -> str:
    """Of those that are trained at most: `3/12`; after the partial-epoch validation `0.3/12`."""
    early = trial.early_look is not None and not trial.curve
    return f"{f'{EARLY_LOOK:.1f}' if early else len(trial.curve)}/{view.spec.epochs}"


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _bar(view: StudyView, elapsed: float, left: TimeLeft | None) -> Table:
    budget, done, total = epoch_budget(view.spec), view.finished, view.spec.trials
    share = done / total if budget is None else sum(map(epochs_trained, view.trials)) / budget
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_row(
        ProgressBar(
            1.0, min(share, 1.0), style="dim", complete_style="green", finished_style="green"
        ),
        f"{done}/{total} trials  {timedelta(seconds=int(elapsed))} elapsed  "
        f"{time_left_in_words(view, left)}",
    )
    return grid


def _table(running: Sequence[TrialView], ended: Sequence[TrialView], view: StudyView) -> Table:
    """Value and accuracy are those of the latest report, on validation images."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name, width in COLUMNS.items():
        name = view.spec.value.word.split()[-1] if name == "value" else name
        table.add_column(
            name, width=width, justify="left" if name == "state" else "right", no_wrap=True
        )
    table.add_column("configuration", ratio=1, no_wrap=True, overflow="ellipsis")
    states = [Text(epochs_done(trial, view), "bold") for trial in running]
    states += [Text(outcome(trial), STYLES.get(trial.state, "")) for trial in ended]
    for trial, state in zip([*running, *ended], states, strict=True):
        latest = trial.reports[-1] if trial.reports else None
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
    best, gain = view.best, gain_in_words(view)
    if best is not None and best.best is not None:
        where = f", epoch {best.best.epoch}/{len(best.curve)}"
        score = f": {score_in_words(best, view)}{where}"
        yield ""
        yield _line(("best    ", "dim"), (named(best), "bold green"), (score, ""))
    if gain is not None:
        yield _line(("gained  ", "dim"), (gain, ""), (" (against the baseline)", "dim"))
