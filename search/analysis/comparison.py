"""The arms of a comparison as numbers: what each reached, and how it differs from another.

Arms share their seeds, so differences are taken seed by seed and tested by Student's paired t test
(two-sided, normal differences assumed). Several tests are corrected after Holm (1979), which keeps
the chance of any false finding below ALPHA. Intervals are not corrected: each is the usual 95 %
confidence interval of one mean.
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
    "untested",  # fewer than two pairs of one seed, or differences without any spread
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
        low, high: 95 % confidence interval of the mean; None without a test.
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


def compare(runs: Mapping[str, ArmRuns], pairs: Iterable[tuple[str, str, str]]) -> list[Difference]:
    """A difference for each (arm, than, metric); tests are corrected over all of them together."""
    found = [_difference(runs[arm], runs[than], metric) for arm, than, metric in pairs]
    corrected = iter(holm([one.p for one in found if one.p is not None]))
    return [
        one if one.p is None else dataclasses.replace(one, p_holm=next(corrected)) for one in found
    ]


def against_base(view: StudyView, metric: str) -> list[Difference]:
    """Every other arm against the base arm."""
    first, *others = (arm.name for arm in view.spec.arms)
    return compare(runs_by_arm(view), [(name, first, metric) for name in others])


def _difference(arm: ArmRuns, than: ArmRuns, metric: str) -> Difference:
    """Before correction."""
    ours, theirs = arm.by_repeat(metric), than.by_repeat(metric)
    repeats = sorted(ours.keys() & theirs.keys())
    differences = [ours[repeat] - theirs[repeat] for repeat in repeats]
    around = spread(differences) or 0.0
    largest = max((abs(arms[repeat]) for arms in (ours, theirs) for repeat in repeats), default=0.0)
    tested = around > 1e-9 * largest  # but for rounding, not all the same
    basis: Basis = "tested" if tested else "untested"
    if metric == "parameters" and differences:
        basis = "counted"
    elif arm.diverged_throughout and than.complete:
        basis = "diverged"
    elif than.diverged_throughout and arm.complete:
        basis = "other diverged"
    plain = Difference(
        arm=arm.arm.name,
        than=than.arm.name,
        metric=metric,
        basis=basis,
        by_repeat=dict(zip(repeats, differences, strict=True)),
    )
    if basis != "tested":
        return plain
    n, middle = len(differences), mean(differences)
    half = float(stats.t.isf(ALPHA / 2, n - 1)) * around / math.sqrt(n)
    p = float(stats.ttest_1samp(differences, 0).pvalue)
    return dataclasses.replace(plain, p=p, low=middle - half, high=middle + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979), in given order."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(ascending):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
