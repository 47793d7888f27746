"""The journal of a report: for each entry, question, method, results, verdict, conclusion."""

from __future__ import annotations

from typing import Any

from search.analysis.comparison import ALPHA, ArmRuns, runs_by_arm
from search.analysis.comparison_words import (
    INTERVAL,
    changes_in_words,
    finding_in_words,
    interval_in_words,
    mean_in_words,
    p_in_words,
    trained_in_words,
)
from search.analysis.describe import describe_config
from search.analysis.hypotheses import Check, Evaluation, evaluate_journal
from search.analysis.measures import MEASURES
from search.analysis.wording import data_in_words, printable
from search.spec.journal import Expectation
from search.spec.space import arm_config
from search.store.views import StudyView

ALWAYS = ("validation_loss", "validation_accuracy")  # in the results of every entry


def journal_values(view: StudyView) -> dict[str, Any]:
    runs = runs_by_arm(view)
    return {
        "journal": [_entry(view, evaluation, runs) for evaluation in evaluate_journal(view)],
        "level": f"{100 * ALPHA:.0f}",
        "interval": INTERVAL,
    }


def _entry(view: StudyView, evaluation: Evaluation, runs: dict[str, ArmRuns]) -> dict[str, Any]:
    entry = evaluation.entry
    involved = list(dict.fromkeys(name for e in entry.expect for name in (e.arm, e.than)))
    expected = [check.expectation.metric for check in evaluation.checks]
    metrics = list(dict.fromkeys([*ALWAYS, *expected]))
    titles = [f"{MEASURES[m].words}{' (%)' if MEASURES[m].unit else ''}" for m in metrics]
    return {
        "outcome": evaluation.outcome,
        "objective": entry.objective,
        "hypothesis": entry.hypothesis,
        "methodology": _methodology(view, entry.methodology, involved),
        "header": ("arm", "seeds", *titles),
        "results": [
            (name, trained_in_words(runs[name]), *(mean_in_words(runs[name], m) for m in metrics))
            for name in involved
        ],
        "checks": [_check_row(check) for check in evaluation.checks],
        "conclusion": conclusion(evaluation),
    }


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
    return text[0].upper() + text[1:]


def _methodology(view: StudyView, said: str, involved: list[str]) -> str:
    """What the author says, and what follows from the arms."""
    parts = [said if not said or said.endswith((".", "!", "?")) else f"{said}."]
    if involved:
        base, *others = view.spec.arms
        described = describe_config(arm_config(view.spec, base))
        parts.append(f"The base, “{base.name}”: {described}.")
        parts += [
            f"“{arm.name}” changes {changes_in_words(view.spec, arm)}."
            for arm in others
            if arm.name in involved
        ]
        seeds = "1 seed" if view.spec.repeats == 1 else f"the same {view.spec.repeats} seeds"
        parts.append(
            f"Data: {data_in_words(view)}; at most {view.spec.epochs} epochs; {seeds} for each arm."
        )
    return " ".join(filter(None, parts))


def _check_row(check: Check) -> tuple[str, ...]:
    difference = check.difference
    mean = difference.mean
    return (
        expected_in_words(check.expectation),
        "" if mean is None else MEASURES[difference.metric].signed(mean),
        interval_in_words(difference),
        p_in_words(check.p),
        p_in_words(check.p_holm),
        check.outcome,
    )


def expected_in_words(expectation: Expectation) -> str:
    """`“a” better than “b” in validation loss`."""
    metric = MEASURES[expectation.metric]
    arm, than = f"“{printable(expectation.arm)}”", f"“{printable(expectation.than)}”"
    if expectation.margin is None:
        return f"{arm} {expectation.outcome} than {than} in {metric.words}"
    margin = metric.signed(expectation.margin).lstrip("+")
    unit = " points" if metric.unit else ""
    return f"{arm} no different from {than} in {metric.words}, within {margin}{unit}"
