"""A comparison in numbers: results per arm, differences, and verdicts on the hypotheses.

Arms share their seeds, so differences are taken seed by seed and tested with Student's paired t
test (two-sided, assuming normal differences). Multiple tests are corrected after Holm (1979), which
keeps the chance of any false finding below ALPHA. Their 95 % confidence intervals are widened to
agree: one excludes 0 if and only if the corrected p of a paired t test is below ALPHA. The tests
know what seeds vary, not what another choice of validation images would.

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
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, Literal

import numpy as np

from search.analysis.measures import measure_of, measured
from search.spec.arms import Arm, Expectation, JournalEntry
from search.store.records import ResultRow
from search.store.views import StudyView, TrialView

ALPHA = 0.05
# Of an accuracy: with fewer, no sign test on the images could find a difference (2 / 2^5 > ALPHA).
FEWEST_IMAGES = 6
DIVERGED = "diverged"  # prefix of a failed trial's reason if its loss became infinite

Decision = Literal["supported", "contradicted", "undecided"]


def has_diverged(reason: object) -> bool:
    """Whether a trial that failed for this reason would do so again: a result of its arm."""
    return isinstance(reason, str) and reason.startswith(DIVERGED)


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
        return sum(has_diverged(trial.reason) for trial in self.failed)

    @property
    def mostly_diverged(self) -> bool:
        """In half of its seeds or more: the mean of the others says little about the arm."""
        return 2 * self.diverged >= self.repeats


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


def arm_of(view: StudyView, result: ResultRow) -> str | None:
    """The arm of a test evaluation; None in a search, and for an earlier study's trial."""
    if not view.spec.is_comparison or not result.is_ours:
        return None
    return view.spec.place_of(result.trial_number)[0].name


def ranked_arms(view: StudyView) -> list[ArmRuns]:
    """Lowest mean of the objective first; those that mostly diverged, or have no value, last."""

    def order(runs: ArmRuns) -> tuple[bool, bool, float]:
        values = runs.values(view.spec.objective)
        return not values, runs.mostly_diverged, mean(values or [math.inf])

    return sorted(runs_by_arm(view).values(), key=order)


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """The difference between two arms, `arm` minus `than`, with its test results.

    Parameter counts, fewer than two pairs, and differences without any spread are not tested.
    """

    arm: str
    than: str
    metric: str  # as `measure_of` takes it
    by_repeat: Mapping[int, float]  # one per seed that both were trained with
    diverged: str | None = None  # the arm that diverged in every seed, of which the other lost none
    lost: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # arm: diverged, of seeds
    expected: Expectation | None = None  # that it decides
    images: int | None = None  # that an accuracy or error is counted on, the same in all seeds
    p: float | None = None  # with a margin: of TOST if the mean lies within, else of lying beyond
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
        """Whether the corrected test is significant at ALPHA, or no test is needed.

        A difference of hardly any images is not: seeds do not vary them.
        """
        if self.p_holm is not None:
            return self.p_holm < ALPHA and self.few_images is None
        return self.diverged is not None or (self.metric == "parameters" and self.pairs > 0)

    @property
    def few_images(self) -> float | None:
        """By how many images an accuracy or error differs, if significantly but by less than
        FEWEST_IMAGES, and without a margin."""
        if not self.mean or self.p_holm is None or self.p_holm >= ALPHA or self.margin is not None:
            return None
        few = abs(self.mean) * (self.images or math.inf)
        return few if few < FEWEST_IMAGES - 1e-6 else None  # errors are multiples of 1 / images

    @property
    def verdict(self) -> Literal["better", "worse", "no evidence"]:
        return (self.direction if self.is_certain else None) or "no evidence"

    @property
    def margin(self) -> float | None:
        return None if self.expected is None else self.expected.margin

    @property
    def outcome(self) -> Decision:
        """Whether it is as expected."""
        assert self.expected is not None
        alike = self.pairs > 1 and not any(self.by_repeat.values())  # to the last digit
        if not self.is_certain and not (alike and self.margin is not None):
            return "undecided"
        agrees = self.direction == self.expected.outcome
        if self.margin is not None:
            agrees = self.mean is not None and abs(self.mean) <= self.margin
        return "supported" if agrees else "contradicted"


def against_base(view: StudyView, metric: str) -> list[Difference]:
    """Every other arm against the base arm; tests are corrected over all of them together."""
    base, *others = runs_by_arm(view).values()
    return tested(_difference(view, arm, base, metric) for arm in others)


def _difference(
    view: StudyView,
    arm: ArmRuns,
    than: ArmRuns,
    metric: str,
    expected: Expectation | None = None,
) -> Difference:
    """Not tested yet."""
    ours, theirs = arm.by_repeat(metric), than.by_repeat(metric)
    by_repeat = {repeat: ours[repeat] - theirs[repeat] for repeat in ours if repeat in theirs}
    both = (arm, than), (than, arm)
    # One seed decides nothing, and an arm that lost some may have been lucky with the others.
    steady = [a for a, _ in both if len(a.complete) == a.repeats > 1]
    worse = [a.arm.name for a, b in both if a.diverged == a.repeats and b in steady]
    lost = {a.arm.name: (a.diverged, a.repeats) for a, _ in both}
    counted = metric == "parameters" and by_repeat
    is_share = metric in ("validation_accuracy", "validation_error")
    return Difference(
        arm=arm.arm.name,
        than=than.arm.name,
        metric=metric,
        by_repeat=by_repeat,
        expected=expected,
        images=view.dataset.validation_count if is_share else None,
        diverged=worse[0] if worse and not counted else None,
        lost={} if counted else lost,
    )


def tested(found: Iterable[Difference]) -> list[Difference]:
    """Each with its test results, p corrected after Holm over all that can be tested."""
    found, tests, p_values = list(found), dict[int, Any](), list[float]()
    for place, one in enumerate(found):
        differences = np.array(list(one.by_repeat.values()))
        # Differences that are all equal, up to rounding, leave nothing to test with.
        alike = len(differences) < 2 or differences.std() <= 1e-9 * abs(differences).max()
        if one.is_certain or alike:
            continue
        from scipy import stats  # half a second to import

        tests[place] = test = stats.ttest_1samp(differences, 0)
        p = test.pvalue
        if one.margin is not None:
            # With the mean mirrored above 0, the upper bound is the nearer one, which decides.
            positive = np.copysign(1, differences.mean()) * differences
            within = stats.ttest_1samp(positive, one.margin, alternative="less").pvalue
            p = within if positive.mean() <= one.margin else 2 * (1 - within)
        p_values.append(float(p))
    for (place, test), p, p_holm in zip(tests.items(), p_values, holm(p_values), strict=True):
        level = ALPHA * p / p_holm if p_holm else ALPHA
        low, high = map(float, test.confidence_interval(1 - level))
        found[place] = dataclasses.replace(found[place], p=p, p_holm=p_holm, low=low, high=high)
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979), in given order."""
    order = np.argsort(p_values)
    scaled = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.maximum.accumulate(np.minimum(scaled, 1))
    return list(map(float, corrected))


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """An entry and its verdict: contradicted if any check is, supported if all checks are."""

    entry: JournalEntry
    checks: tuple[Difference, ...]  # one for each different expectation

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
        checks = tested(
            _difference(view, runs[one.arm], runs[one.than], one.metric, one)
            for one in dict.fromkeys(entry.expect)
        )
        found.append(Evaluation(entry=entry, checks=tuple(checks)))
    return found
