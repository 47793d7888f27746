"""The journal part of a report: for each entry, question, method, results, verdict, conclusion."""

from __future__ import annotations

from collections.abc import Iterator

from search.analysis.comparison import ALPHA, ArmRuns, runs_by_arm
from search.analysis.comparison_words import (
    INTERVAL,
    INTERVAL_MEANS,
    changes_in_words,
    finding_in_words,
    interval_in_words,
    mean_in_words,
    p_in_words,
    trained_in_words,
)
from search.analysis.describe import describe_network, describe_training
from search.analysis.hypotheses import Check, Evaluation, evaluate_journal
from search.analysis.measures import MEASURES
from search.analysis.wording import data_in_words, printable
from search.pages.document import Block, Heading, Paragraph, Table
from search.spec.journal import Expectation
from search.spec.space import arm_config
from search.store.views import StudyView


def journal_blocks(view: StudyView) -> Iterator[Block]:
    evaluations = evaluate_journal(view)
    if not evaluations:
        return
    yield Heading(text="Journal")
    yield Paragraph(
        text="Verdicts are those of tests over seeds, not of taste: a paired t test for “better” "
        "and “worse”, two one-sided t tests within the margin for “no different”, at "
        f"{100 * ALPHA:.0f} %, corrected after Holm over the expectations of an entry. "
        f"{INTERVAL_MEANS} Of “better” and “worse” it excludes 0 exactly where they are supported "
        "or contradicted; of “no different” it lies within the margin exactly where that is "
        "supported (there a 90 % interval, as both tests are one-sided), and beyond it exactly "
        "where that is contradicted. "
        "“Undecided” means that these seeds cannot tell. An arm that diverged in every seed "
        "counts as worse than one that trained. Seeds vary initial weights, order and "
        "augmentation; the validation images stay the same."
    )
    runs = runs_by_arm(view)
    for number, evaluation in enumerate(evaluations, start=1):
        yield from _entry(view, number, evaluation, runs)


def conclusion(evaluation: Evaluation) -> str:
    """The verdict and the figures behind it, as a sentence for each expectation."""
    if not evaluation.checks:
        return "Undecided: the entry expects nothing that a test could decide (expect = [...])."
    findings = [
        f"{check.outcome}: {finding_in_words(check.difference)}" for check in evaluation.checks
    ]
    text = "; ".join(findings) + "."
    if len(findings) > 1:
        text = f"{evaluation.outcome} as a whole. One by one, {text}"
    return text[0].upper() + text[1:]


def _entry(
    view: StudyView, number: int, evaluation: Evaluation, runs: dict[str, ArmRuns]
) -> Iterator[Block]:
    entry = evaluation.entry
    yield Heading(text=f"Entry {number}: {evaluation.outcome}", level=3)
    yield Paragraph(label="Objective", text=printable(entry.objective))
    yield Paragraph(label="Hypothesis", text=printable(entry.hypothesis))
    involved = list(dict.fromkeys(n for e in entry.expect for n in (e.arm, e.than)))
    yield Paragraph(label="Methodology", text=_methodology(view, evaluation, involved))
    if involved:
        yield Paragraph(
            label="Results",
            text="Mean ± sample standard deviation over the seeds, at each seed's best epoch.",
        )
        yield _results([runs[name] for name in involved], evaluation)
    yield Paragraph(label="Evaluation", text=f"{evaluation.outcome.capitalize()}.")
    if evaluation.checks:
        yield _checks(evaluation)
    yield Paragraph(label="Conclusion", text=conclusion(evaluation))


def _methodology(view: StudyView, evaluation: Evaluation, involved: list[str]) -> str:
    """What the author says, and what follows from the arms."""
    said = printable(evaluation.entry.methodology)
    parts = [said if not said or said.endswith((".", "!", "?")) else f"{said}."]
    if involved:
        base, *others = view.spec.arms
        config = arm_config(view.spec, base)
        parts.append(
            f"The base, “{printable(base.name)}”: {describe_network(config.architecture)}; "
            f"{describe_training(config)}."
        )
        parts += [
            f"“{printable(arm.name)}” changes {changes_in_words(view.spec, arm)}."
            for arm in others
            if arm.name in involved
        ]
        seeds = "1 seed" if view.spec.repeats == 1 else f"the same {view.spec.repeats} seeds"
        parts.append(
            f"Data: {data_in_words(view)}; at most {view.spec.epochs} epochs; {seeds} for each arm."
        )
    return " ".join(filter(None, parts)) or "Not given."


def _results(involved: list[ArmRuns], evaluation: Evaluation) -> Table:
    named = [check.expectation.metric for check in evaluation.checks]
    metrics = list(dict.fromkeys(["validation_loss", "validation_accuracy", *named]))
    return Table(
        header=("arm", "seeds", *(_titled(name) for name in metrics)),
        rows=[
            (
                printable(runs.arm.name),
                trained_in_words(runs),
                *(mean_in_words(runs, name) for name in metrics),
            )
            for runs in involved
        ],
        numbers=tuple(range(2, 2 + len(metrics))),
    )


def _checks(evaluation: Evaluation) -> Table:
    return Table(
        header=("expected", "difference", INTERVAL, "p", "p after Holm", "verdict"),
        rows=[_check_row(check) for check in evaluation.checks],
        numbers=(1, 2, 3, 4),
    )


def _check_row(check: Check) -> tuple[str, ...]:
    difference = check.difference
    metric = MEASURES[difference.metric]
    return (
        expected_in_words(check.expectation),
        "" if difference.mean is None else metric.signed(difference.mean),
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


def _titled(name: str) -> str:
    metric = MEASURES[name]
    return f"{metric.words}{' (%)' if metric.unit else ''}"
