"""A comparison in numbers: results per arm, differences, and verdicts on the hypotheses.

Arms share their seeds, so differences are taken seed by seed and tested with Student's paired t
test (two-sided, assuming normal differences). Multiple tests are corrected after Holm (1979), which
keeps the chance of any false finding below ALPHA. Their 95 % confidence intervals are widened to
agree: one excludes 0 if and only if the corrected p of a paired t test is below ALPHA.

"Better" and "worse" in a hypothesis are supported if that test finds a difference in that direction
and contradicted if it finds one in the other; "no different" is supported if two one-sided t tests
place the difference within the margin (TOST; Schuirmann 1987, Lakens 2017, doi
10.1177/1948550617697177) and contradicted if the confidence interval lies beyond it. Otherwise it
is undecided: there are too few seeds. The expectations of an entry are corrected together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

import numpy as np

from search.analysis.measures import measure_of, measured
from search.analysis.wording import spread
from search.spec.arms import Arm, Expectation, JournalEntry
from search.store.views import StudyView, TrialView

ALPHA = 0.05
DIVERGED = "diverged"  # prefix of a failed trial's reason if its loss became infinite

Verdict = Literal["better", "worse", "no evidence"]
Decision = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmRuns:
    """An arm and its trials, by repeat: complete ones with a finished epoch, and failed ones."""

    arm: Arm
    repeats: int  # planned
    complete: tuple[TrialView, ...]
    failed: tuple[TrialView, ...]

    def by_repeat(self, metric: str) -> dict[int, float]:
        """From complete trials; the number of parameters also from failed ones."""
        trials = (*self.complete, *self.failed) if metric == "parameters" else self.complete
        return {
            trial.repeat: value
            for trial in trials
            if trial.repeat is not None and (value := measured(trial, metric)) is not None
        }

    def values(self, metric: str) -> list[float]:
        return list(self.by_repeat(metric).values())

    @property
    def diverged(self) -> int:
        return sum((trial.reason or "").startswith(DIVERGED) for trial in self.failed)

    @property
    def diverged_throughout(self) -> bool:
        return self.diverged == self.repeats


def runs_by_arm(view: StudyView) -> dict[str, ArmRuns]:
    """Every arm of the comparison by name, the base first."""
    complete = [trial for trial in view.in_state("complete") if trial.best is not None]
    return {
        arm.name: ArmRuns(
            arm=arm,
            repeats=view.spec.repeats,
            complete=tuple(trial for trial in complete if trial.arm == arm.name),
            failed=tuple(trial for trial in view.in_state("failed") if trial.arm == arm.name),
        )
        for arm in view.spec.arms
    }


def ranked_arms(view: StudyView) -> list[ArmRuns]:
    """Lowest mean of the objective first; those without a complete trial last."""
    objective = view.spec.objective
    arms = runs_by_arm(view).values()
    return sorted(arms, key=lambda runs: mean(runs.values(objective) or [math.inf]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The difference between two arms, `arm` minus `than`, with its test results.

    Parameter counts, fewer than two pairs, and differences without any spread are not tested.
    """

    arm: str
    than: str
    metric: str  # as `measure_of` takes it
    by_repeat: Mapping[int, float]  # one per seed that both were trained with
    diverged: str | None = None  # the arm that diverged in every seed while the other trained
    p: float | None = None
    p_holm: float | None = None  # corrected over all tests made together
    low: float | None = None  # confidence interval of the mean: 95 %, or more to agree with p_holm
    high: float | None = None

    @property
    def pairs(self) -> int:
        return len(self.by_repeat)

    @property
    def mean(self) -> float | None:
        return mean(self.by_repeat.values()) if self.by_repeat else None

    @property
    def direction(self) -> Literal["better", "worse"] | None:
        """What the mean suggests, significant or not; an arm that always diverged is worse than
        one that trained."""
        if self.diverged is not None:
            return "worse" if self.diverged == self.arm else "better"
        if not self.mean:
            return None
        lower_is_better = measure_of(self.metric).lower_is_better
        return "better" if (self.mean < 0) == lower_is_better else "worse"

    @property
    def is_certain(self) -> bool:
        """Whether the corrected test is significant at ALPHA, or no test is needed."""
        if self.p_holm is not None:
            return self.p_holm < ALPHA
        return self.diverged is not None or (self.metric == "parameters" and self.pairs > 0)

    @property
    def verdict(self) -> Verdict:
        return (self.direction if self.is_certain else None) or "no evidence"


def against_base(view: StudyView, metric: str) -> list[Difference]:
    """Every other arm against the base arm; tests are corrected over all of them together."""
    runs = runs_by_arm(view)
    base, *others = runs.values()
    return corrected(_difference(arm, base, metric) for arm in others)


def _difference(
    arm: ArmRuns, than: ArmRuns, metric: str, margin: float | None = None
) -> Difference:
    """Before correction. With a margin, p is that of TOST if the mean lies within the margin, else
    that of the two-sided test against the nearer bound."""
    ours, theirs = arm.by_repeat(metric), than.by_repeat(metric)
    by_repeat = {repeat: ours[repeat] - theirs[repeat] for repeat in ours if repeat in theirs}
    counted = metric == "parameters" and by_repeat
    both = (arm, than), (than, arm)
    lost = [a.arm.name for a, b in both if a.diverged_throughout and b.complete and not counted]
    plain = Difference(
        arm=arm.arm.name,
        than=than.arm.name,
        metric=metric,
        by_repeat=by_repeat,
        diverged=next(iter(lost), None),
    )
    largest = max(map(abs, ours.values()), default=0.0)
    return plain if counted or lost else judged(plain, largest, margin)


def judged(plain: Difference, largest: float, margin: float | None = None) -> Difference:
    """With its test results, before correction. `largest`: magnitude of the largest value."""
    differences = list(plain.by_repeat.values())
    # Differences that are all equal, up to rounding, leave nothing to test with.
    if (spread(differences) or 0.0) <= 1e-9 * largest:
        return plain
    from scipy import stats  # half a second to import

    test = stats.ttest_1samp(differences, 0)
    low, high = test.confidence_interval(1 - ALPHA)
    p = test.pvalue
    if margin is not None:
        # With the mean mirrored above 0, the upper bound is the nearer one, which decides.
        positive = np.copysign(1, mean(differences)) * np.array(differences)
        within = stats.ttest_1samp(positive, margin, alternative="less").pvalue
        p = within if positive.mean() <= margin else 2 * (1 - within)
    return dataclasses.replace(plain, p=float(p), low=float(low), high=float(high))


def corrected(found: Iterable[Difference]) -> list[Difference]:
    """With p after Holm, corrected over all of them, and intervals that agree with it."""
    found = list(found)
    p_values = iter(holm([one.p for one in found if one.p is not None]))
    return [one if one.p is None else _widened(one, next(p_values)) for one in found]


def _widened(one: Difference, p_holm: float) -> Difference:
    from scipy import stats

    assert one.p is not None
    assert one.mean is not None
    assert one.high is not None
    level = ALPHA * one.p / p_holm if p_holm else ALPHA
    usual, wider = stats.t.isf([ALPHA / 2, level / 2], one.pairs - 1)
    half = float((one.high - one.mean) * wider / usual)
    return dataclasses.replace(one, p_holm=p_holm, low=one.mean - half, high=one.mean + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979), in given order."""
    order = np.argsort(p_values)
    scaled = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.maximum.accumulate(np.minimum(scaled, 1))
    return list(map(float, corrected))


@dataclass(frozen=True, slots=True)
class Check:
    """An expectation and the difference that decides it."""

    expectation: Expectation
    difference: Difference

    @property
    def outcome(self) -> Decision:
        found, margin = self.difference, self.expectation.margin
        alike = found.pairs > 0 and not any(found.by_repeat.values())  # to the last digit
        if not found.is_certain and not (alike and margin is not None):
            return "undecided"
        agrees = found.direction == self.expectation.outcome
        if margin is not None:
            agrees = found.mean is not None and abs(found.mean) <= margin
        return "supported" if agrees else "contradicted"


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """An entry and its verdict: contradicted if any check is, supported if all checks are."""

    entry: JournalEntry
    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Decision:
        outcomes = {check.outcome for check in self.checks}
        if "contradicted" in outcomes:
            return "contradicted"
        return "supported" if outcomes == {"supported"} else "undecided"


def evaluate_journal(view: StudyView) -> list[Evaluation]:
    """Every entry of the study's journal, in order."""
    runs, found = runs_by_arm(view), []
    for entry in view.spec.journal:
        expected = list(dict.fromkeys(entry.expect))
        differences = corrected(
            _difference(runs[one.arm], runs[one.than], one.metric, one.margin) for one in expected
        )
        checks = tuple(map(Check, expected, differences))
        found.append(Evaluation(entry=entry, checks=checks))
    return found
