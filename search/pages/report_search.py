"""The report of a search: what it found, how it got there, and what mattered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from models.family import compact
from search.analysis.describe import short_config
from search.analysis.findings import all_overfitting_in_words, named, stop_in_words
from search.analysis.importances import (
    FEWEST,
    importances,
    importances_in_words,
    search_axes,
    usable,
)
from search.analysis.measures import accuracy_of, legend, measured
from search.analysis.times import time_spent
from search.analysis.wording import considered, counts_in_words, grouped, printable
from search.figures.figures_choices import (
    chosen_kinds,
    error_against_dropout,
    kinds_side_by_side,
    searches_dropout,
)
from search.figures.figures_curves import learning_curves
from search.figures.figures_search import importances_bars, parallel_coordinates
from search.figures.figures_study import (
    best_so_far,
    loss_against_parameters,
    pareto_front,
    time_by_outcome,
)
from search.pages.document import Block, Details, Facts, Heading, Paragraph, Plot, Table
from search.pages.report_frame import best_network, failures
from search.store.views import StudyView, TrialView
from search.terminal.summary import gain_in_words, score_in_words

TOP = 10
PARTS = ("train", "validation")
TRIAL_HEADER = (
    "trial",
    "train loss", "val. loss",
    "train error (%)", "val. error (%)",
    "train acc. (%)", "val. acc. (%)",
    "parameters", "learning rate", "best epoch", "configuration",
)  # fmt: skip


def search_blocks(view: StudyView) -> Iterator[Block]:
    """Everything between the report's head and the test set."""
    yield from _summary(view)
    yield from _trials(view)
    yield from _course(view)
    yield from _parameters(view)
    if view.best is not None:
        yield from best_network(view, view.best, "the best trial")
    yield from failures(view)


def _summary(view: StudyView) -> Iterator[Block]:
    best = view.best
    if best is None or best.best is None:
        yield Paragraph(text="No trial has run to its end yet, so there is no best one.")
        return
    images = view.dataset.validation_count
    yield Facts(
        pairs=(
            ("best", named(best)),
            ("its validation loss (nats)", f"{best.best.validation_loss:.4f}"),
            ("its validation accuracy", str(accuracy_of([best.best.validation_error], images))),
            ("its parameters", "" if best.parameters is None else grouped(best.parameters)),
            ("trials", counts_in_words(view)),
            ("trained for", time_spent(view)),
        )
    )
    gain, baseline = gain_in_words(view), view.baseline
    if best.is_baseline:
        yield Paragraph(text="The best is the baseline itself: no trial has beaten it.")
    elif gain is not None and baseline is not None:
        yield Paragraph(
            text=f"The baseline, trial {baseline.number}, has {score_in_words(baseline, view)}; "
            f"the best, trial {best.number}, has {score_in_words(best, view)}. Gained: {gain}."
        )
    for sentence in (stop_in_words(view), all_overfitting_in_words(view)):
        if sentence is not None:
            yield Paragraph(text=sentence)
    yield Paragraph(
        text=f"{legend(images)} Each trial ran with a seed of its own. The best of "
        f"{view.count('complete')} complete trials was picked on the images that it is judged by, "
        "and so looks a little better than it is."
    )


def _trials(view: StudyView) -> Iterator[Block]:
    ranked = view.leaderboard
    if not ranked:
        return
    yield Heading(text="Trials")
    yield _table(
        ranked[:TOP],
        f"The best {min(TOP, len(ranked))} of {grouped(view.count('complete'))} complete trials, "
        "at the epoch of the lowest validation loss (cross entropy, nats); one run each. Training "
        "figures are means over the epoch, while the weights change, with augmentation and "
        "dropout; with label smoothing the loss holds that, too.",
    )
    others = [trial for trial in view.in_state("complete", "pruned", "failed") if trial.best]
    if len(others) > len(ranked[:TOP]):
        yield Details(
            summary=f"All {len(others)} trials{considered(view)} with a finished epoch",
            blocks=(_table(others, "In the order of their numbers."),),
        )


def _table(trials: Sequence[TrialView], caption: str) -> Table:
    return Table(
        header=TRIAL_HEADER,
        rows=[_row(trial) for trial in trials],
        caption=caption,
        numbers=tuple(range(1, 10)),
    )


def _row(trial: TrialView) -> tuple[str, ...]:
    marks = ["baseline"] * trial.is_baseline + [trial.state] * (trial.state != "complete")
    config, best = trial.config, trial.best
    return (
        f"#{trial.number}" + (f" ({', '.join(marks)})" if marks else ""),
        *(_figure(trial, f"{part}_loss", 4) for part in PARTS),
        *(_figure(trial, f"{part}_error", 2, 100) for part in PARTS),
        *(_figure(trial, f"{part}_accuracy", 2, 100) for part in PARTS),
        "" if trial.parameters is None else grouped(trial.parameters),
        "" if config is None else compact(config.recipe.learning_rate),
        "" if best is None else f"{best.epoch} of {len(trial.curve)}",
        "" if config is None else printable(short_config(config)),
    )


def _figure(trial: TrialView, metric: str, digits: int, factor: float = 1) -> str:
    value = measured(trial, metric)
    return "" if value is None else f"{factor * value:.{digits}f}"


def _course(view: StudyView) -> Iterator[Block]:
    yield Heading(text="How the search went")
    yield Plot(
        name="history",
        figure=best_so_far(view),
        alt="Lowest validation loss of any complete trial, by trials finished and by time",
    )
    yield Plot(
        name="curves",
        figure=learning_curves(view),
        alt="Validation loss by epoch of all trials, the best epoch of the best ones marked",
    )
    yield Plot(
        name="parameters",
        figure=loss_against_parameters(view),
        alt="Lowest validation loss of each trial by its number of parameters, and Pareto front",
    )
    front = [
        f"#{trial.number} ({grouped(trial.parameters)} parameters, loss "
        f"{trial.best.validation_loss:.4f})"
        for trial in pareto_front(view)
        if trial.parameters and trial.best
    ]
    if front:
        yield Paragraph(
            text=f"Pareto front, trials that no other beats in both size and loss: "
            f"{', '.join(front)}."
        )
    time = time_by_outcome(view)
    time.update_layout(height=260)
    yield Plot(
        name="time",
        figure=time,
        alt="Time spent on training and validation by what became of the trials",
    )


def _parameters(view: StudyView) -> Iterator[Block]:
    if not search_axes(view.spec):
        return
    yield Heading(text="What mattered")
    found = importances(view)
    if found is None:
        yield Paragraph(
            text=f"Importances take {FEWEST} trials that have trained equally long, without the "
            f"baseline, and losses that differ; {len(usable(view))} have reported a loss."
        )
    else:
        yield Plot(
            name="importances",
            figure=importances_bars(view, found),
            alt="Share of the variance of the losses that each searched parameter explains",
        )
        yield Paragraph(text=importances_in_words(found))
    yield Plot(
        name="parallel",
        figure=parallel_coordinates(view),
        alt="Each trial as a line through the values of its parameters to its loss",
    )
    if chosen_kinds(view.spec):
        yield Plot(
            name="kinds",
            figure=kinds_side_by_side(view),
            alt="Validation loss by kind of weight decay and of augmentation",
        )
    if searches_dropout(view.spec):
        yield Plot(
            name="dropout",
            figure=error_against_dropout(view),
            alt="Validation error by rate of dropout",
        )
