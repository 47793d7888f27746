"""The arms of a comparison as numbers: what each reached, and how it differs from another.

Arms share their seeds, so differences are taken seed by seed and tested by Student's paired t test
(two-sided, normal differences assumed). The effect size is Cohen's d_z, the mean difference over
the standard deviation of the differences (Cohen 1988; Lakens 2013, "Calculating and reporting
effect sizes", doi 10.3389/fpsyg.2013.00863); of few seeds it comes out too large. Several tests
are corrected after Holm (1979), which keeps the chance of any false finding below ALPHA. Intervals
are those of the corrected tests, as Serlin (1993, "Confidence intervals and the scientific method:
a case for Holm on the range") proposes: each at the level of its own step, so that it excludes 0
exactly where the verdict is a difference. They do not cover all true differences at once in 95 % of
studies, which stepwise tests cannot give.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from scipy import stats

from search.analysis.metrics import METRICS, measured
from search.analysis.wording import spread
from search.spec.arms import Arm
from search.store.view import StudyView, TrialView

ALPHA = 0.05
DIVERGED = "diverged"  # how the reason of a trial begins whose loss became infinite

Verdict = Literal["better", "worse", "no evidence"]
Standing = Literal[
    "tested",
    "one seed",  # a single pair, which has no spread
    "no pair",  # no seed with which both were trained
    "equal",  # differences that do not differ among each other: nothing to estimate a spread from
    "counted",  # no measurement: a number of parameters
    "diverged",  # the arm in every seed, while the other trained
    "other diverged",
]


def guessing_loss(view: StudyView) -> float:
    """In nats, what all classes as equally likely score."""
    return math.log(max(2, len(view.dataset.class_names)))


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmRuns:
    """An arm and its trials, by repeat: complete ones with a finished epoch, and failed ones."""

    arm: Arm
    repeats: int  # planned
    complete: tuple[TrialView, ...]
    failed: tuple[TrialView, ...]

    def by_repeat(self, metric: str) -> dict[int, float]:
        """Of complete trials; the number of parameters also of failed ones."""
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
        """How many trials failed because their loss became infinite."""
        return sum((trial.reason or "").startswith(DIVERGED) for trial in self.failed)

    @property
    def diverged_throughout(self) -> bool:
        return self.diverged == self.repeats


def runs_by_arm(view: StudyView) -> dict[str, ArmRuns]:
    """Every arm of the comparison by its name, the base first."""
    return {
        arm.name: ArmRuns(
            arm=arm,
            repeats=view.spec.repeats,
            complete=tuple(
                trial
                for trial in view.in_state("complete")
                if trial.arm == arm.name and trial.best is not None
            ),
            failed=tuple(t for t in view.in_state("failed") if t.arm == arm.name),
        )
        for arm in view.spec.arms
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far an arm is from another one, `arm` minus `than`, with what a test says of it.

    Attributes:
        metric: one of METRICS.
        by_repeat: of each seed with which both were trained.
        p: of the paired t test; None without one.
        p_holm: corrected over the tests that were made together.
        low, high: confidence interval of the mean; without 0 exactly where p_holm < ALPHA. Of a
            test made alone the usual 95 % interval. None without a test.
        effect: Cohen's d_z; None without a test.
    """

    arm: str
    than: str
    metric: str
    standing: Standing
    by_repeat: Mapping[int, float]
    p: float | None = None
    p_holm: float | None = None
    low: float | None = None
    high: float | None = None
    effect: float | None = None

    @property
    def pairs(self) -> int:
        return len(self.by_repeat)

    @property
    def mean(self) -> float | None:
        return mean(self.by_repeat.values()) if self.by_repeat else None

    @property
    def direction(self) -> Literal["better", "worse"] | None:
        """Where the mean points, however surely; an arm that always diverged is worse than one
        that trained."""
        if self.standing in ("diverged", "other diverged"):
            return "worse" if self.standing == "diverged" else "better"
        if not self.mean:
            return None
        return "better" if (self.mean < 0) == METRICS[self.metric].lower_is_better else "worse"

    @property
    def verdict(self) -> Verdict:
        """The direction, if the corrected test finds one at ALPHA or none is needed."""
        sure = self.standing in ("counted", "diverged", "other diverged") or (
            self.p_holm is not None and self.p_holm < ALPHA
        )
        return self.direction or "no evidence" if sure else "no evidence"


def compare(runs: Mapping[str, ArmRuns], pairs: Iterable[tuple[str, str, str]]) -> list[Difference]:
    """A difference for each (arm, than, metric); tests are corrected over all of them together."""
    found = [_difference(runs[arm], runs[than], metric) for arm, than, metric in pairs]
    tested = {(d.arm, d.than, d.metric): d.p for d in found if d.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [_corrected(d, corrected.get((d.arm, d.than, d.metric)), len(tested)) for d in found]


def _corrected(difference: Difference, p_holm: float | None, tests: int) -> Difference:
    if difference.p is None or p_holm is None:
        return difference
    alpha = level(difference.p, p_holm, tests)
    low, high = interval(list(difference.by_repeat.values()), alpha)
    return dataclasses.replace(difference, p_holm=p_holm, low=low, high=high)


def level(p: float, p_holm: float, tests: int) -> float:
    """What p is compared with, from ALPHA / tests to ALPHA: below it exactly where p_holm < ALPHA.

    Args:
        tests: that were corrected together.
    """
    return ALPHA * p / p_holm if p > 0 else ALPHA / tests


def interval(differences: Sequence[float], alpha: float) -> tuple[float, float]:
    """Student's confidence interval of the mean at 1 - alpha; of two values or more."""
    n = len(differences)
    half = float(stats.t.isf(alpha / 2, n - 1)) * (spread(differences) or 0.0) / math.sqrt(n)
    return mean(differences) - half, mean(differences) + half


def against_base(view: StudyView, metric: str) -> list[Difference]:
    """Every other arm against the base arm."""
    first, *others = (arm.name for arm in view.spec.arms)
    return compare(runs_by_arm(view), [(name, first, metric) for name in others])


def _difference(arm: ArmRuns, than: ArmRuns, metric: str) -> Difference:
    ours, theirs = arm.by_repeat(metric), than.by_repeat(metric)
    repeats = sorted(ours.keys() & theirs.keys())
    a, b = [ours[repeat] for repeat in repeats], [theirs[repeat] for repeat in repeats]
    differences = [x - y for x, y in zip(a, b, strict=True)]
    plain = Difference(
        arm=arm.arm.name,
        than=than.arm.name,
        metric=metric,
        standing="no pair",
        by_repeat=dict(zip(repeats, differences, strict=True)),
    )
    if metric == "parameters":
        return dataclasses.replace(plain, standing="counted") if differences else plain
    if arm.diverged_throughout and than.complete:
        return dataclasses.replace(plain, standing="diverged")
    if than.diverged_throughout and arm.complete:
        return dataclasses.replace(plain, standing="other diverged")
    if not differences:
        return plain
    around = spread(differences)
    if around is None:
        return dataclasses.replace(plain, standing="one seed")
    if around <= 1e-9 * max(map(abs, (*a, *b)), default=0.0):  # but for rounding, all the same
        return dataclasses.replace(plain, standing="equal")
    return dataclasses.replace(
        plain,
        standing="tested",
        p=float(stats.ttest_rel(a, b).pvalue),
        effect=mean(differences) / around,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979), in given order."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(ascending):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
