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

from search.analysis.measures import measure_of, measured
from search.analysis.wording import spread
from search.spec.arms import Arm
from search.store.views import StudyView, TrialView

ALPHA = 0.05
DIVERGED = "diverged"  # how the reason of a trial begins whose loss became infinite

Verdict = Literal["better", "worse", "no evidence"]
Basis = Literal[
    "tested",
    "one seed",  # a single pair, which has no spread
    "no pair",  # no seed with which both were trained
    "equal",  # differences that do not differ among each other: nothing to estimate a spread from
    "counted",  # no measurement: a number of parameters
    "diverged",  # the arm in every seed, while the other trained
    "other diverged",
]


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """How far an arm is from another one, `arm` minus `than`, with what a test says of it.

    Attributes:
        metric: as `measure_of` takes it.
        basis: what the verdict rests on.
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
    basis: Basis
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
        if self.basis in ("diverged", "other diverged"):
            return "worse" if self.basis == "diverged" else "better"
        if not self.mean:
            return None
        lower_is_better = measure_of(self.metric).lower_is_better
        return "better" if (self.mean < 0) == lower_is_better else "worse"

    @property
    def verdict(self) -> Verdict:
        """The direction, if the corrected test finds one at ALPHA or none is needed."""
        sure = self.basis in ("counted", "diverged", "other diverged") or (
            self.p_holm is not None and self.p_holm < ALPHA
        )
        return self.direction or "no evidence" if sure else "no evidence"

    def corrected(self, p: float, p_holm: float, tests: int, widened: float = 1.0) -> Difference:
        """With the interval of a test that was corrected together with others.

        Args:
            p, p_holm: of the test, before and after correction.
            tests: that were corrected together.
            widened: factor of the interval's level.
        """
        # What p is compared with, from ALPHA / tests to ALPHA: p is below it where p_holm < ALPHA.
        alpha = widened * (ALPHA * p / p_holm if p > 0 else ALPHA / tests)
        differences, n = list(self.by_repeat.values()), self.pairs
        half = float(stats.t.isf(alpha / 2, n - 1)) * (spread(differences) or 0.0) / math.sqrt(n)
        middle = mean(differences)
        return dataclasses.replace(self, p_holm=p_holm, low=middle - half, high=middle + half)


def compare(runs: Mapping[str, ArmRuns], pairs: Iterable[tuple[str, str, str]]) -> list[Difference]:
    """A difference for each (arm, than, metric); tests are corrected over all of them together."""
    asked = list(pairs)
    found = {
        (arm, than, metric): _difference(runs[arm], runs[than], metric)
        for arm, than, metric in asked
    }
    tested = {pair: d.p for pair, d in found.items() if d.p is not None}
    for (pair, p), p_holm in zip(tested.items(), holm(list(tested.values())), strict=True):
        found[pair] = found[pair].corrected(p, p_holm, len(tested))
    return [found[pair] for pair in asked]


def against_base(view: StudyView, metric: str) -> list[Difference]:
    """Every other arm against the base arm."""
    first, *others = (arm.name for arm in view.spec.arms)
    return compare(runs_by_arm(view), [(name, first, metric) for name in others])


def _difference(arm: ArmRuns, than: ArmRuns, metric: str) -> Difference:
    """Before correction."""
    ours, theirs = arm.by_repeat(metric), than.by_repeat(metric)
    repeats = sorted(ours.keys() & theirs.keys())
    differences = [ours[repeat] - theirs[repeat] for repeat in repeats]
    around = spread(differences)
    largest = max((abs(arms[repeat]) for arms in (ours, theirs) for repeat in repeats), default=0.0)
    basis: Basis = "tested"
    if metric == "parameters":
        basis = "counted" if differences else "no pair"
    elif arm.diverged_throughout and than.complete:
        basis = "diverged"
    elif than.diverged_throughout and arm.complete:
        basis = "other diverged"
    elif around is None:
        basis = "one seed" if differences else "no pair"
    elif around <= 1e-9 * largest:  # but for rounding, all the same
        basis = "equal"
    tested = basis == "tested" and around is not None
    return Difference(
        arm=arm.arm.name,
        than=than.arm.name,
        metric=metric,
        basis=basis,
        by_repeat=dict(zip(repeats, differences, strict=True)),
        p=float(stats.ttest_1samp(differences, 0).pvalue) if tested else None,
        effect=mean(differences) / around if tested and around else None,
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
