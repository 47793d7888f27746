"""The leaderboard, for terminals and notebooks."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from search.analysis.comparison import against_base, ranked_arms
from search.analysis.comparison_words import (
    SPREAD,
    mean_in_words,
    trained_in_words,
    verdict_in_words,
)
from search.analysis.describe import short_config
from search.analysis.measures import legend, objective_in_words, sampling_error
from search.analysis.wording import data_in_words, grouped, printable
from search.store.views import StudyView, TrialView
from search.terminal.frame import epochs_done

LEFT = ("state", "arm", "seeds", "verdict", "configuration")  # columns of words


def leaderboard(view: StudyView, top: int | None = None) -> Table:
    """The trials of a search, or the arms of a comparison, best first.

    Args:
        top: at most so many; None: all.
    """
    value, data = view.spec.value.word, data_in_words(view)
    if view.spec.is_comparison:
        rows = _arms(view)
        heads = ["rank", "arm", "seeds", value, "error (%)", "parameters", "verdict"]
        base = printable(view.spec.arms[0].name)
        meaning = f"{SPREAD}; verdict against “{base}”: paired t test, corrected after Holm."
    else:
        rows = [_cells(view, rank, trial) for rank, trial in enumerate(view.ranking, start=1)]
        heads = ["rank", "trial", "state", value, "error (%)", "epochs", "parameters"]
        heads.append("configuration")
        meaning = (
            f"At each trial's epoch of the lowest {view.spec.value.label}; only complete trials "
            f"have a rank. {legend(view.dataset.validation_count)}"
        )
    arms = view.spec.is_comparison  # whose verdicts wrap; configurations are cut to what is left
    table = Table(box=None, pad_edge=False, header_style="dim", expand=not arms)
    table.caption = Text(f"{meaning} {data}.", "dim", justify="left")
    for head in heads:
        table.add_column(
            head,
            justify="left" if head in LEFT else "right",
            ratio=1 if head == "configuration" else None,
            no_wrap=not arms,
            overflow="fold" if arms else "ellipsis",
        )
    for row in rows[:top]:
        table.add_row(*map(Text, row))
    return table


def _cells(view: StudyView, rank: int, trial: TrialView) -> tuple[str, ...]:
    best, value, error = trial.best, "", ""
    if best is not None:
        value = objective_in_words(view, best.value)
        sampling = sampling_error(best.validation_error, view.dataset.validation_count)
        error = f"{100 * best.validation_error:.2f} ± {100 * sampling:.2f}"
    about = short_config(trial.config) if trial.config else trial.reason or ""
    return (
        str(rank) if trial.state == "complete" else "",
        str(trial.number),
        trial.state,
        value,
        error,
        epochs_done(trial, view),
        "" if trial.parameters is None else grouped(trial.parameters),
        printable(f"baseline: {about}" if trial.is_baseline else about),
    )


def _arms(view: StudyView) -> list[tuple[str, ...]]:
    objective = view.spec.objective
    found = {one.arm: verdict_in_words(one) for one in against_base(view, objective)}
    return [
        (
            str(rank) if runs.complete else "",
            printable(runs.arm.name),
            trained_in_words(runs),
            *(mean_in_words(runs, it) for it in (objective, "validation_error", "parameters")),
            found.get(runs.arm.name, "the base"),
        )
        for rank, runs in enumerate(ranked_arms(view), start=1)
    ]
