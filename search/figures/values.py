"""What figures take from a study: few digits, few points, nothing that is not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from search.analysis.measures import guessing_value
from search.analysis.wording import data_in_words, fitted, grouped
from search.spec.recipe import EARLY_LOOK
from search.store.views import StudyView, TrialView

T = TypeVar("T")

MOST_ARM = 40  # characters of an arm's name


def axis(view: StudyView) -> str:
    """What trials are compared by: `validation loss (cross entropy, nats)`."""
    value = view.spec.value
    return f"{value.label} ({value.unit})" if value.unit else value.label


def points(trial: TrialView) -> list[tuple[float, float]]:
    """(epoch, value) of its reports with a finite value; rung 0 stands where it was taken."""
    return [
        (row.epoch or round(EARLY_LOOK, 2), value)
        for row in trial.reports
        if (value := short(row.value)) is not None
    ]


def lowest(trial: TrialView) -> float | None:
    """Value of its best epoch; of rung 0 where it came no further."""
    best = trial.best or trial.early_look
    return None if best is None else short(best.value)


def value_range(view: StudyView) -> list[float]:
    """Of a logarithmic axis, in decades: from the lowest value to the highest, or that of guessing.

    A diverging trial would otherwise squeeze all others into a line; see `guessing_value`.
    """
    found = [value for trial in view.trials for _, value in points(trial) if value > 0]
    guessing = guessing_value(view)
    low, high = min(found, default=guessing / 10), max(found, default=guessing)
    return [math.log10(low * 0.95), math.log10(max(min(high, guessing), low) * 1.05)]


def thinned(items: Sequence[T], most: int) -> Sequence[T]:
    """At most so many (2 or more), evenly chosen, first and last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def joined(parts: Iterable[Iterable[Any]]) -> list[Any]:
    """Many lines as one trace: None parts them, which leaves a gap."""
    return [value for part in parts for value in (*part, None)]


def with_count(name: str, shown: Sequence[T], all_of_them: Sequence[T]) -> str:
    """`pruned (30)`, or `pruned (60 of 412)` where not all are drawn."""
    some = "" if len(shown) == len(all_of_them) else f"{len(shown)} of "
    return f"{name} ({some}{grouped(len(all_of_them))})"


def short(value: float | None) -> float | None:
    """Four significant digits, which is what can be seen; None where not finite."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def subtitle(view: StudyView, remark: str = "one run each") -> str:
    """Data set and counts; below, progress and the remark: at most about 75 characters."""
    return (
        f"{in_figure(data_in_words(view))}<br>{grouped(view.finished)} of "
        f"{grouped(view.spec.trials)} trials finished; {remark}"
    )


def in_figure(text: str) -> str:
    """Text that people typed, for plotly's HTML, which knows no entity for quotation marks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def arm_label(name: str) -> str:
    """An arm's name, cut and escaped for a figure."""
    return in_figure(fitted(name, MOST_ARM))
