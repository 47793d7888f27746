"""Arms, their differences and the journal in words and table cells: all unescaped."""

from __future__ import annotations

from data.errors import grouped
from search.analysis.comparison import (
    ArmRuns,
    Difference,
    Evaluation,
    against_base,
    arm_of,
    ranked_arms,
    runs_by_arm,
)
from search.analysis.measures import measure_of
from search.analysis.wording import capitalized, counted, in_columns, printable, told_apart
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.domains import ParameterValue
from search.spec.space import base_values
from search.store.views import StudyView

SPREAD = "Mean ± sample standard deviation over the seeds"
INTERVAL = "95 % interval after Holm"  # how Difference.low and high are labelled everywhere


def mean_in_words(runs: ArmRuns, metric: str, *, unit: bool = False) -> str:
    """See `Measure.mean_and_spread`; empty if nothing was measured."""
    values = runs.values(metric)
    return measure_of(metric).mean_and_spread(values, unit=unit) if values else ""


def trained_in_words(runs: ArmRuns) -> str:
    """`3`, `2 of 3, 1 diverged`, `0 of 3, 2 failed`: seeds trained to the end, out of all."""
    trained, other = len(runs.complete), len(runs.failed) - runs.diverged
    parts = [str(trained) if trained == runs.repeats else f"{trained} of {runs.repeats}"]
    parts += [f"{runs.diverged} diverged"] * bool(runs.diverged)
    return ", ".join([*parts, *[f"{other} failed"] * bool(other)])


def standing_of_arms(view: StudyView) -> list[str]:
    """An empty line, a header, and a line for each arm so far, best first; [] for a search."""
    if not view.spec.arms:
        return []
    word = view.spec.value.word + measure_of(view.spec.objective).of_header
    rows = [("arm", "trained", f"{word}, mean ± s.d.", "accuracy, %")]
    names = told_apart([arm.name for arm in view.spec.arms])
    for runs in ranked_arms(view):
        objective = mean_in_words(runs, view.spec.objective)
        accuracy = mean_in_words(runs, "validation_accuracy")
        rows.append((names[runs.arm.name], trained_in_words(runs), objective, accuracy))
    return ["", *in_columns(rows)]


def changes_in_words(spec: StudySpec, arm: Arm) -> str:
    """`dropout 0 → 0.2, batch norm no → yes`: what an arm changes in the base arm."""
    start = base_values(spec)
    before, after = {**start, **spec.arms[0].values}, {**start, **arm.values}
    changed = [
        f"{name.replace('_', ' ')} {value_in_words(before[name])} → {value_in_words(after[name])}"
        for name in start
        if before[name] != after[name]
    ]
    return ", ".join(changed) or "nothing"


def value_in_words(value: ParameterValue) -> str:
    """`0.2`, `yes`, `32-64`, `none`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def interval_in_words(difference: Difference) -> str:
    """`−0.0205 to −0.0061`; empty without a test."""
    if difference.low is None or difference.high is None:
        return ""
    measure = measure_of(difference.metric)
    return f"{measure.signed(difference.low)} to {measure.signed(difference.high)}"


def p_in_words(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict_in_words(difference: Difference) -> str:
    """The verdict and, if no test was possible, the reason; which seeds are not in it."""
    verdict = difference.verdict.replace("no evidence", "no evidence of a difference")
    if difference.diverged is not None:
        which = "it" if difference.diverged == difference.arm else printable(difference.than)
        verdict = f"{difference.verdict}: {which} diverged in every seed"
    elif not difference.by_repeat:
        verdict = "no evidence: no seed with which both were trained to the end"
    elif difference.p is None:
        seeds = counted(difference.pairs, "seed")
        verdict = f"no evidence: {seeds} without a spread to test with"
    return verdict + _few_in_words(difference) + _lost_in_words(difference)


def verdicts_in_words(view: StudyView) -> dict[str, str]:
    """Of each arm against the base, in the study's objective."""
    found = {one.arm: verdict_in_words(one) for one in against_base(view, view.spec.objective)}
    return {view.spec.arms[0].name: "the base", **found}


def _few_in_words(difference: Difference) -> str:
    """Why a significant difference counts for nothing, if it does."""
    few, images = difference.few_images, grouped(difference.images or 0)
    return "" if few is None else f": it is {few:.1f} of {images} images, the same for all seeds"


def _lost_in_words(difference: Difference) -> str:
    """Seeds that diverged and so are in no mean, except where `diverged` says so of all."""
    return "".join(
        f"; {seeds_lost(arm, *seeds)}"
        for arm, seeds in difference.lost.items()
        if seeds[0] and arm != difference.diverged
    )


def lowest_arm(view: StudyView) -> tuple[ArmRuns | None, str]:
    """The arm of the lowest mean so far, and its verdict against the base."""
    lowest = next((arm for arm in ranked_arms(view) if arm.complete), None)
    if lowest is None:
        return None, ""
    name = lowest.arm.name
    if name != view.spec.arms[0].name:
        return lowest, verdicts_in_words(view)[name]
    lost = f"; {seeds_lost(name, lowest.diverged, lowest.repeats)}" if lowest.diverged else ""
    return lowest, f"it is the base itself{lost}"


def seeds_lost(arm: str, diverged: int, repeats: int) -> str:
    seeds = counted(repeats, "seed")
    return f"{diverged} of {seeds} of “{printable(arm)}” diverged and cannot be compared"


def finding_in_words(difference: Difference) -> str:
    """A sentence without its full stop: which way, by how much, how sure."""
    return _finding(difference) + _few_in_words(difference) + _lost_in_words(difference)


def _finding(difference: Difference) -> str:
    arm, than = f"“{printable(difference.arm)}”", f"“{printable(difference.than)}”"
    measure, middle = measure_of(difference.metric), difference.mean
    if difference.diverged is not None:
        bad, good = (arm, than) if difference.diverged == difference.arm else (than, arm)
        return f"{bad} diverged in every seed, which counts as worse than {good}, which trained"
    if middle is None:
        return f"there is no seed with which both {arm} and {than} were trained to the end"
    relation = "equals" if middle == 0 else "is lower than" if middle < 0 else "is higher than"
    # Signed, as the interval that follows.
    signed = f"{'−' if middle < 0 else '+'}{measure.size(middle)}"
    size = f", a difference of {signed}" if middle else ""
    head = f"the {measure.words} of {arm} {relation} that of {than}{size}"
    if difference.metric == "parameters":
        return head
    seeds = counted(difference.pairs, "seed")
    if difference.p is None:
        return f"{head} ({seeds}, no spread to test with)"
    p = p_in_words(difference.p_holm)
    p = p if p.startswith("<") else f"= {p}"
    if difference.margin is not None:
        where = "within" if abs(middle) <= difference.margin else "beyond"
        p = f"{p} that it lies {where} ±{measure.size(difference.margin)}"
    return f"{head} (mean of {seeds}; {INTERVAL} {interval_in_words(difference)}, p {p})"


def differing_setup(view: StudyView) -> list[str]:
    """How the setup differs from that of the published experiment."""
    spec, theirs = view.spec, view.spec.published
    if not theirs:
        return []
    there = view.dataset.training_count - view.dataset.validation_count
    ours, wanted = (min(there, n or there) for n in (spec.limit, theirs.get("limit")))
    epochs, repeats = theirs.get("epochs", spec.epochs), theirs.get("repeats", spec.repeats)
    ours_epochs = counted(spec.epochs, "epoch")
    return [
        *[f"trained on {grouped(ours)} images, not {grouped(wanted)}"] * (ours != wanted),
        *[f"trained for at most {ours_epochs}, not {epochs}"] * (epochs != spec.epochs),
        *[f"{counted(spec.repeats, 'seed')} an arm, not {repeats}"] * (spec.repeats < repeats),
    ]


def published_values(view: StudyView) -> list[tuple[str, str, str, str]]:
    """(arm, measure, theirs, ours) for every published value of an arm."""
    return [
        (arm.arm.name, measure.words, measure.shown(theirs), _ours(view, arm, name))
        for arm in runs_by_arm(view).values()
        for name, theirs in arm.arm.reported.items()
        if (measure := measure_of(name))
    ]


def _ours(view: StudyView, arm: ArmRuns, name: str) -> str:
    """Test values are those of the arm's first test evaluation."""
    if not name.startswith("test"):
        values = arm.values(name)
        count = "" if name == "parameters" else f" ({counted(len(values), 'seed')})"
        return mean_in_words(arm, name, unit=True) + count if values else trained_in_words(arm)
    measure = measure_of(name)
    for evaluation in view.results:
        if arm_of(view, evaluation) == arm.arm.name and evaluation.figures is not None:
            around = evaluation.figures.get("loss_std" if name == "test_loss" else "std")
            value = measure.shown(evaluation.figures[name.removeprefix("test_")])
            return value + (measure.of_seeds(around, len(evaluation.seeds)) or " (1 seed)")
    return "test set not evaluated"


def conclusion(evaluation: Evaluation) -> str:
    """The verdict and the values behind it, as a sentence for each expectation."""
    if not evaluation.checks:
        return "Undecided: the entry has no expectation that a test could decide (expect = [...])."
    findings = [
        f"{check.outcome} (expected: {_expected(check)}): {finding_in_words(check)}"
        for check in evaluation.checks
    ]
    text = "; ".join(findings) + "."
    if len(findings) > 1:
        text = f"{evaluation.outcome} as a whole. One by one, {text}"
    return capitalized(text)


def _expected(check: Difference) -> str:
    """As the finding says it: `higher`, `lower` or `no different by more than 1.00 points`."""
    assert check.expected is not None
    if check.margin is not None:
        size = measure_of(check.metric).size(check.margin)
        return f"{check.expected.outcome} by more than {size}"
    falls = (check.expected.outcome == "better") == measure_of(check.metric).lower_is_better
    return "lower" if falls else "higher"
