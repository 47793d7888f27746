"""What the report of a comparison says beside its tables: published values, and the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data.errors import grouped
from search.analysis.comparison import ArmRuns, Evaluation, against_base, ranked_arms, runs_by_arm
from search.analysis.comparison_words import (
    finding_in_words,
    mean_in_words,
    trained_in_words,
    verdict_in_words,
)
from search.analysis.measures import measure_of
from search.analysis.wording import capitalized, counted
from search.spec.arms import JournalEntry
from search.store.views import StudyView


def comparison_values(view: StudyView) -> dict[str, Any]:
    runs = runs_by_arm(view)
    lowest = next((arm for arm in ranked_arms(view) if arm.complete), None)
    verdicts = {d.arm: verdict_in_words(d) for d in against_base(view, view.spec.objective)}
    return {
        "runs": runs,
        "lowest": lowest,
        "verdict": lowest and verdicts.get(lowest.arm.name),
        "published": published_values(view, runs),
        "differs": differing_setup(view),
    }


def differing_setup(view: StudyView) -> list[str]:
    """What was done otherwise than in the published experiment."""
    spec, theirs = view.spec, view.spec.published
    if not theirs:
        return []
    there = view.dataset.training_count - view.dataset.validation_count
    ours, wanted = (min(there, n or there) for n in (spec.limit, theirs.get("limit")))
    epochs, repeats = theirs.get("epochs", spec.epochs), theirs.get("repeats", spec.repeats)
    return [
        *[f"trained on {grouped(ours)} images, not {grouped(wanted)}"] * (ours != wanted),
        *[f"trained for at most {spec.epochs} epochs, not {epochs}"] * (epochs != spec.epochs),
        *[f"{counted(spec.repeats, 'seed')} an arm, not {repeats}"] * (spec.repeats < repeats),
    ]


def published_values(
    view: StudyView, runs: Mapping[str, ArmRuns]
) -> list[tuple[str, str, str, str]]:
    """(arm, value, theirs, ours) of every value that an arm reports."""
    return [
        (arm.arm.name, measure.words, measure.shown(theirs), _ours(view, arm, name))
        for arm in runs.values()
        for name, theirs in arm.arm.reported.items()
        if (measure := measure_of(name))
    ]


def _ours(view: StudyView, arm: ArmRuns, name: str) -> str:
    """A test value is that of the first test evaluation of this arm."""
    if not name.startswith("test"):
        values = arm.values(name)
        count = "" if name == "parameters" else f" ({counted(len(values), 'seed')})"
        return mean_in_words(arm, name) + count if values else trained_in_words(arm)
    measure, numbers = measure_of(name), {trial.number for trial in arm.complete}
    for evaluation in view.results:
        of_arm = evaluation.is_ours and evaluation.trial_number in numbers
        if of_arm and evaluation.figures is not None:
            around = evaluation.figures.get("loss_std" if name == "test_loss" else "std")
            value = measure.bare(evaluation.figures[name.removeprefix("test_")])
            return value + (measure.of_seeds(around, len(evaluation.seeds)) or " (1 seed)")
    return "test set not evaluated"


def involved(entry: JournalEntry) -> list[str]:
    """The arms that an entry expects something of."""
    return list(dict.fromkeys(name for one in entry.expect for name in (one.arm, one.than)))


def conclusion(evaluation: Evaluation) -> str:
    """The verdict and the values behind it, as a sentence for each expectation."""
    if not evaluation.checks:
        return "Undecided: the entry expects nothing that a test could decide (expect = [...])."
    findings = [
        f"{check.outcome}: {finding_in_words(check.difference)}" for check in evaluation.checks
    ]
    text = "; ".join(findings) + "."
    if len(findings) > 1:
        text = f"{evaluation.outcome} as a whole. One by one, {text}"
    return capitalized(text)
