"""Arms and their differences in words and table cells: all unescaped."""

from __future__ import annotations

from statistics import mean

from search.analysis.comparison import ArmRuns, Difference
from search.analysis.measures import HUGE, measure_of
from search.analysis.wording import counted, mean_and_spread, printable, spread
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.domains import ParameterValue
from search.spec.space import base_values

SPREAD = "Mean ± sample standard deviation over the seeds"
INTERVAL = "95 % interval"  # of Difference.low and high, wherever it is shown
MANY = 3  # equal numbers from which a list of them is written as a product


def mean_in_words(runs: ArmRuns, metric: str) -> str:
    """`0.0958 ± 0.0127`, `97.10 ± 0.31`, `9 850`; empty where nothing was measured."""
    values = runs.values(metric)
    if not values:
        return ""
    measure = measure_of(metric)
    if len(set(values)) == 1 and measure.digits == 0:
        return measure.shown(values[0])
    if mean(values) >= HUGE and measure.digits:
        around = spread(values)
        return measure.shown(mean(values)) + ("" if around is None else f" ± {around:.2e}")
    return mean_and_spread(values, measure.digits, measure.factor)


def trained_in_words(runs: ArmRuns) -> str:
    """`3`, `2 of 3, 1 diverged`, `0 of 3, 2 failed`: trained to the end, of how many."""
    trained, other = len(runs.complete), len(runs.failed) - runs.diverged
    parts = [str(trained) if trained == runs.repeats else f"{trained} of {runs.repeats}"]
    parts += [f"{runs.diverged} diverged"] * bool(runs.diverged)
    return ", ".join([*parts, *[f"{other} failed"] * bool(other)])


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
    """`0.2`, `yes`, `32-64`, `8 × 128`, `none`."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case ():
            return "none"
        case tuple() if len(value) > MANY and len(set(value)) == 1:
            return f"{len(value)} × {value[0]}"
        case tuple():
            return "-".join(map(str, value))
        case _:
            return printable(str(value))


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
    match difference.basis:
        case "diverged":
            return "worse: it diverged in every seed"
        case "other diverged":
            return f"better: {printable(difference.than)} diverged in every seed"
        case "counted":
            return {"better": "fewer", "worse": "more"}.get(difference.verdict, "equally many")
        case "untested" if not difference.by_repeat:
            return "no evidence: no seed with which both were trained to the end"
        case "untested":
            seeds = counted(difference.pairs, "seed")
            return f"no evidence: {seeds} without a spread to test with"
    return difference.verdict.replace("no evidence", "no evidence of a difference")


def finding_in_words(difference: Difference) -> str:
    """A sentence without its full stop: which way, by how much, how sure."""
    arm, than = f"“{printable(difference.arm)}”", f"“{printable(difference.than)}”"
    measure, middle, basis = measure_of(difference.metric), difference.mean, difference.basis
    if basis in ("diverged", "other diverged"):
        bad, good = (arm, than) if basis == "diverged" else (than, arm)
        return f"{bad} diverged in every seed, which counts as worse than {good}, which trained"
    if middle is None:
        return f"there is no seed with which both {arm} and {than} were trained to the end"
    relation = "equals" if middle == 0 else "is lower than" if middle < 0 else "is higher than"
    points = " points" if measure.unit else ""
    size = f" by {measure.signed(abs(middle)).lstrip('+')}{points}" if middle else ""
    head = f"the {measure.words} of {arm} {relation} that of {than}{size}"
    seeds = counted(difference.pairs, "seed")
    if basis == "counted":
        return head
    if basis == "untested":
        return f"{head} ({seeds}, no spread to test with)"
    p = p_in_words(difference.p_holm)
    p = p if p.startswith("<") else f"= {p}"
    interval = interval_in_words(difference)
    return f"{head} (mean of {seeds}; {INTERVAL} {interval}; p {p} after Holm)"
