"""What the report of a comparison says of the arms beside the values of a published report."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean
from typing import Any

from search.analysis.comparison import ArmRuns
from search.analysis.comparison_words import mean_in_words, trained_in_words
from search.analysis.measures import MEASURES, seeds_in_words
from search.analysis.wording import counted, grouped
from search.store.views import StudyView


def published_values(view: StudyView, runs: Mapping[str, ArmRuns]) -> dict[str, Any]:
    """No rows where no arm reports a value; no differences where they would mean nothing."""
    changed, fewer = differing_setup(view)
    rows = [
        _row(view, arm, metric, theirs)
        for arm in runs.values()
        for metric, theirs in arm.arm.reported.items()
    ]
    return {
        "rows": [row[:-1] for row in rows] if changed else rows,
        "changed": ", ".join(changed),
        "fewer": fewer,
    }


def differing_setup(view: StudyView) -> tuple[list[str], str | None]:
    """(what makes the values incomparable, what makes ours less certain): against the report."""
    spec, theirs = view.spec, view.spec.published
    if not theirs:
        return [], None
    changed = []
    if theirs.get("limit") != spec.limit:
        there = view.dataset.training_count - view.dataset.validation_count
        ours, wanted = (grouped(min(there, n or there)) for n in (spec.limit, theirs.get("limit")))
        if ours != wanted:
            changed.append(f"trained on {ours} images, not {wanted}")
    epochs, repeats = theirs.get("epochs", spec.epochs), theirs.get("repeats", spec.repeats)
    if epochs != spec.epochs:
        changed.append(f"trained for at most {spec.epochs} epochs, not {epochs}")
    seeds = counted(spec.repeats, "seed")
    return changed, f"{seeds} an arm, not {repeats}" if spec.repeats < repeats else None


def _row(view: StudyView, arm: ArmRuns, name: str, theirs: float) -> tuple[str, str, str, str, str]:
    metric = MEASURES[name]
    head = (arm.arm.name, metric.words, metric.shown(theirs))
    if name.startswith("test"):
        evaluation = _test_evaluation(view, arm, name.removeprefix("test_"))
        if evaluation is None:
            return (*head, "test set not evaluated", "")
        value, around, seeds = evaluation
        spread = seeds_in_words(around, seeds, metric.digits, metric.factor) or " (1 seed)"
        ours = f"{metric.factor * value:.{metric.digits}f}{spread}"
        return (*head, ours, metric.signed(value - theirs))
    values = arm.values(name)
    if not values:
        return (*head, trained_in_words(arm), "")
    count = counted(len(values), "seed")
    ours = mean_in_words(arm, name) + ("" if name == "parameters" else f" ({count})")
    return (*head, ours, metric.signed(mean(values) - theirs))


def _test_evaluation(
    view: StudyView, arm: ArmRuns, name: str
) -> tuple[float, float | None, int] | None:
    """(mean, standard deviation, seeds) of the first test evaluation of this arm."""
    numbers = {trial.number for trial in arm.complete}
    for evaluation in view.results:
        if evaluation.trial_number in numbers and evaluation.figures is not None:
            around = evaluation.figures.get("loss_std" if name == "loss" else "std")
            return evaluation.figures[name], around, len(evaluation.seeds)
    return None
