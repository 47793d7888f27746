"""Arms and their differences in words and table cells: all unescaped."""

from __future__ import annotations

from search.analysis.comparison import ArmRuns, Difference, ranked_arms
from search.analysis.measures import measure_of
from search.analysis.wording import counted, fitted, in_columns, printable
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.domains import ParameterValue
from search.spec.space import base_values
from search.store.views import StudyView

SPREAD = "Mean ± sample standard deviation over the seeds"
INTERVAL = "95 % interval"  # of Difference.low and high, wherever it is shown


def mean_in_words(runs: ArmRuns, metric: str) -> str:
    """See `Measure.mean_and_spread`; empty where nothing was measured."""
    values = runs.values(metric)
    return measure_of(metric).mean_and_spread(values) if values else ""


def trained_in_words(runs: ArmRuns) -> str:
    """`3`, `2 of 3, 1 diverged`, `0 of 3, 2 failed`: trained to the end, of how many."""
    trained, other = len(runs.complete), len(runs.failed) - runs.diverged
    parts = [str(trained) if trained == runs.repeats else f"{trained} of {runs.repeats}"]
    parts += [f"{runs.diverged} diverged"] * bool(runs.diverged)
    return ", ".join([*parts, *[f"{other} failed"] * bool(other)])


def standing_of_arms(view: StudyView) -> list[str]:
    """An empty line, a head, and a line for each arm so far, the lowest mean first; [] of a search.

    Of objective and accuracy: the mean ± sample standard deviation over the seeds.
    """
    if not view.spec.arms:
        return []
    rows = [("arm", "trained", f"{view.spec.value.word}, mean ± s.d.", "accuracy, %")]
    for runs in ranked_arms(view):
        objective = mean_in_words(runs, view.spec.objective)
        accuracy = mean_in_words(runs, "validation_accuracy")
        rows.append((fitted(runs.arm.name), trained_in_words(runs), objective, accuracy))
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
    """The verdict, and where no test could be made, why."""
    if difference.diverged is not None:
        which = "it" if difference.diverged == difference.arm else printable(difference.than)
        return f"{difference.verdict}: {which} diverged in every seed"
    if not difference.by_repeat:
        return "no evidence: no seed with which both were trained to the end"
    if difference.p is None:
        seeds = counted(difference.pairs, "seed")
        return f"no evidence: {seeds} without a spread to test with"
    return difference.verdict.replace("no evidence", "no evidence of a difference")


def finding_in_words(difference: Difference) -> str:
    """A sentence without its full stop: which way, by how much, how sure."""
    arm, than = f"“{printable(difference.arm)}”", f"“{printable(difference.than)}”"
    measure, middle = measure_of(difference.metric), difference.mean
    if difference.diverged is not None:
        bad, good = (arm, than) if difference.diverged == difference.arm else (than, arm)
        return f"{bad} diverged in every seed, which counts as worse than {good}, which trained"
    if middle is None:
        return f"there is no seed with which both {arm} and {than} were trained to the end"
    relation = "equals" if middle == 0 else "is lower than" if middle < 0 else "is higher than"
    size = f" by {measure.size(middle)}" if middle else ""
    head = f"the {measure.words} of {arm} {relation} that of {than}{size}"
    if difference.metric == "parameters":
        return head
    seeds = counted(difference.pairs, "seed")
    if difference.p is None:
        return f"{head} ({seeds}, no spread to test with)"
    p = p_in_words(difference.p_holm)
    p = p if p.startswith("<") else f"= {p}"
    interval = interval_in_words(difference)
    return f"{head} (mean of {seeds}; {INTERVAL} {interval}; p {p} after Holm)"
