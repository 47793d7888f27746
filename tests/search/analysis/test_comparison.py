"""Differences between arms, and hypotheses true, false and undecidable by construction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from scipy import stats

from search.analysis.comparison import (
    DIVERGED,
    Difference,
    Evaluation,
    against_base,
    evaluate_journal,
    holm,
    ranked_arms,
    runs_by_arm,
)
from search.analysis.comparison import tested as with_tests
from search.analysis.comparison_words import (
    conclusion,
    finding_in_words,
    lowest_arm,
    verdict_in_words,
)
from search.running.trial import DivergedError, describe
from search.spec.arms import Expectation, JournalEntry
from search.store.views import StudyView
from tests.search.made_up_views import comparison_view

BASE = [0.50, 0.52, 0.49, 0.51]


def difference(view: StudyView, metric: str = "validation_loss") -> Difference:
    (only,) = against_base(view, metric)
    return only


def test_the_paired_test_is_the_textbook_one() -> None:
    arm = [0.41, 0.45, 0.38, 0.44]
    found = difference(comparison_view({"base": BASE, "arm": arm}))
    d = [a - b for a, b in zip(arm, BASE, strict=True)]
    n, error = len(d), stdev(d) / math.sqrt(len(d))
    critical = stats.t.ppf(0.975, n - 1)
    assert found.mean == pytest.approx(mean(d))
    assert found.low == pytest.approx(mean(d) - critical * error)
    assert found.high == pytest.approx(mean(d) + critical * error)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(mean(d) / error), n - 1))
    assert found.p_holm == found.p  # the only test
    assert found.verdict == "better"


@pytest.mark.parametrize(
    "metric", ["validation_error", "validation_accuracy", "train_loss", "train_accuracy"]
)
def test_lower_is_better_except_for_accuracy(metric: str) -> None:
    assert difference(comparison_view({"base": FIVE, "arm": LOWER}), metric).verdict == "better"
    if metric == "validation_accuracy":
        view = comparison_view({"base": FIVE, "arm": LOWER})
        accuracy, error = (difference(view, f"validation_{name}") for name in ("accuracy", "error"))
        assert accuracy.mean == pytest.approx(-(error.mean or 0))
        assert accuracy.p == pytest.approx(error.p)
    if metric != "train_accuracy":  # not allowed in a journal's expectations
        better = expect("better", metric=metric)
        assert judge({"base": FIVE, "arm": LOWER}, better).outcome == "supported"


def test_only_runs_of_the_same_seed_are_paired() -> None:
    # The variation between seeds, common to both arms, is far larger than the difference.
    base = [0.5, 0.7, 0.3, 0.9]
    arm = [0.51, 0.7095, 0.3105, 0.91]
    assert difference(comparison_view({"base": base, "arm": arm})).verdict == "worse"
    mixed = [0.91, 0.3105, 0.7095, 0.51]
    assert difference(comparison_view({"base": base, "arm": mixed})).verdict == "no evidence"
    some = difference(comparison_view({"base": [0.5, None, 0.3], "arm": [0.4, 0.6, 0.25]}))
    assert dict(some.by_repeat) == pytest.approx({0: -0.1, 2: -0.05})


def test_differences_that_cannot_be_tested_are_no_evidence() -> None:
    one = difference(comparison_view({"base": [0.5], "arm": [0.1]}))
    assert (one.verdict, one.p, one.low) == ("no evidence", None, None)
    same = difference(comparison_view({"base": BASE, "arm": BASE}))
    assert (same.verdict, same.p) == ("no evidence", None)
    # The same in each seed except for rounding: without a spread, p would be 0.
    shifted = difference(comparison_view({"base": BASE, "arm": [loss + 0.1 for loss in BASE]}))
    assert (shifted.verdict, shifted.p) == ("no evidence", None)
    tiny = {name: [1e-9 * loss for loss in arm] for name, arm in (("base", FIVE), ("arm", LOWER))}
    assert difference(comparison_view(tiny)).verdict == "better"  # whatever the scale
    none = difference(comparison_view({"base": [0.5, None], "arm": [None, 0.4]}))
    assert (none.verdict, none.mean) == ("no evidence", None)


@pytest.mark.parametrize(
    ("base", "arm", "reason", "verdict"),
    [
        ([0.5, 0.6], [None] * 2, "diverged: train loss became nan", "worse"),
        ([None] * 2, [0.5, 0.6], "diverged: train loss became nan", "better"),
        ([None] * 2, [None] * 2, "diverged: train loss became nan", "no evidence"),
        # Not with one seed, nor if the other lost one as well.
        ([0.5], [None], "diverged: train loss became nan", "no evidence"),
        ([0.5, None], [None] * 2, "diverged: train loss became nan", "no evidence"),
        # Not if it may still train, nor if something else stopped it.
        ([0.5, 0.6], [None], "diverged: train loss became nan", "no evidence"),
        ([0.5, 0.6], [None] * 2, "out of memory", "no evidence"),
    ],
)
def test_an_arm_that_always_diverged_is_worse(
    base: list[float | None], arm: list[float | None], reason: str, verdict: str
) -> None:
    view = comparison_view({"base": base, "arm": arm}, repeats=len(base), reason=reason)
    assert difference(view).verdict == verdict
    assert difference(view).diverged == {"worse": "arm", "better": "base"}.get(verdict)
    if reason == "out of memory":
        assert runs_by_arm(view)["arm"].diverged == 0


def test_arms_that_mostly_diverged_are_ranked_last() -> None:
    losses = {"base": [0.5, 0.6], "lucky": [0.1, None], "lost": [None] * 2}
    view = comparison_view(losses)
    assert [runs.arm.name for runs in ranked_arms(view)] == ["base", "lucky", "lost"]
    assert lowest_arm(view)[0] == ranked_arms(view)[0]


def test_a_diverged_trial_is_recognised_by_the_reason_the_loop_writes() -> None:
    assert describe(DivergedError("diverged: train loss became nan")).startswith(DIVERGED)
    assert not describe(RuntimeError("diverged")).startswith(DIVERGED)
    assert not describe(MemoryError()).startswith(DIVERGED)


def test_arms_are_corrected_together_by_holms_method() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.02, 0.5, 0.9]) == pytest.approx([0.08, 0.08, 1.0, 1.0])
    assert (holm([0.3]), holm([])) == ([0.3], [])
    arms = {"base": BASE, "a": [0.46, 0.47, 0.45, 0.46], "b": [0.48, 0.53, 0.44, 0.49]}
    view = comparison_view({**arms, "lost": [None] * 4})
    a, b, lost = against_base(view, "validation_loss")
    assert a.p is not None
    assert b.p is not None
    assert [a.p_holm, b.p_holm, lost.p_holm] == [*holm([a.p, b.p]), None]


def test_an_interval_excludes_zero_if_the_corrected_test_finds_a_difference() -> None:
    rng, seen = np.random.default_rng(2), set()
    for _ in range(100):
        drawn = rng.normal(0.02, 0.014, (3, 3))
        made = (dict(enumerate(row)) for row in drawn)
        arms = [Difference(arm="a", than="b", metric="train_loss", by_repeat=it) for it in made]
        for one in with_tests(arms):
            assert one.p is not None
            assert one.low is not None
            assert one.high is not None
            assert (one.low > 0 or one.high < 0) == one.is_certain
            seen.add((one.is_certain, one.p < 0.05))
    assert seen == {(False, False), (False, True), (True, True)}


def test_false_findings_are_as_rare_as_promised() -> None:
    """Arms that differ from the base by chance alone, 200 studies of four arms and five seeds."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(200):
        base, *others = rng.normal(0.5, 0.02, (4, 5))
        made = (dict(enumerate(row - base)) for row in others)
        arms = [Difference(arm="a", than="b", metric="train_loss", by_repeat=it) for it in made]
        wrong += any(one.verdict != "no evidence" for one in with_tests(arms))
    assert wrong <= 18  # 5 % of 200 is 10; more than 18 has a chance of 0.5 %


def expect(
    outcome: Any = "better",
    *,
    arm: str = "arm",
    metric: str = "validation_loss",
    margin: float | None = None,
) -> Expectation:
    return Expectation(arm=arm, than="base", metric=metric, outcome=outcome, margin=margin)


def entry(*expectations: Expectation) -> JournalEntry:
    return JournalEntry(objective="Find out.", hypothesis="It is so.", expect=expectations)


def judge(losses: dict[str, Sequence[float | None]], *expectations: Expectation) -> Evaluation:
    view = comparison_view(losses, journal=[entry(*expectations)])
    (evaluation,) = evaluate_journal(view)
    return evaluation


def around(middle: float, spread: float, rng_seed: int = 0) -> list[float]:
    """Losses of five seeds that vary by chance."""
    return list(np.random.default_rng(rng_seed).normal(middle, spread, 5))


FIVE = around(0.50, 0.005)
LOWER = around(0.40, 0.005, rng_seed=1)
HIGHER = around(0.60, 0.005, rng_seed=2)
ALIKE = around(0.50, 0.005, rng_seed=3)
NOISE = around(0.48, 0.2, rng_seed=4)
LOST = [None] * 5
OF_ARM = "the validation loss of “arm” is"
BY = "a difference of −0.0991"  # signed, as the interval


@pytest.mark.parametrize(
    ("arm", "outcome", "margin", "verdict", "says"),
    [
        (LOWER, "better", None, "supported", f"{OF_ARM} lower than that of “base”, {BY} (mean"),
        (LOWER, "worse", None, "contradicted", f"{OF_ARM} lower"),
        (HIGHER, "worse", None, "supported", f"{OF_ARM} higher"),
        (HIGHER, "better", None, "contradicted", f"{OF_ARM} higher"),
        (NOISE, "better", None, "undecided", "5 seeds"),
        (NOISE, "worse", None, "undecided", OF_ARM),
        (ALIKE, "no different", 0.02, "supported", OF_ARM),
        # Shown neither to differ nor to be alike: these seeds cannot resolve the margins.
        (NOISE, "no different", 0.02, "undecided", OF_ARM),
        (ALIKE, "no different", 0.0005, "undecided", OF_ARM),
        (LOWER, "no different", 0.02, "contradicted", OF_ARM),
        (HIGHER, "no different", 0.02, "contradicted", OF_ARM),
        (LOWER, "no different", 0.2, "supported", "lower"),  # certainly lower, but by less
        (FIVE, "no different", 0.02, "supported", "equals"),
        (LOST, "worse", None, "supported", "“arm” diverged in every seed, which counts as worse"),
        (LOST, "better", None, "contradicted", "“arm” diverged"),
        (LOST, "no different", 0.1, "contradicted", "“arm” diverged"),
    ],
)
def test_a_hypothesis_is_decided_by_its_test(
    arm: Any, outcome: str, margin: float | None, verdict: str, says: str
) -> None:
    evaluation = judge({"base": FIVE, "arm": arm}, *[expect(outcome, margin=margin)] * 2)
    assert (evaluation.outcome, len(evaluation.checks)) == (verdict, 1)  # stated twice: one test
    expected = {"better": "lower", "worse": "higher"}.get(outcome)
    if margin is not None:
        expected = f"no different by more than {margin:.4f}"
    head = f"{verdict.capitalize()} (expected: {expected}): "
    assert conclusion(evaluation).startswith(head)
    assert says in conclusion(evaluation)


@pytest.mark.parametrize("arm", [ALIKE, LOWER, HIGHER])
def test_a_margin_is_tested_by_two_one_sided_tests(arm: list[float]) -> None:
    (check,) = judge({"base": FIVE, "arm": arm}, expect("no different", margin=0.02)).checks
    d = np.subtract(arm, FIVE)

    def one_sided(border: float, side: str) -> float:
        return float(stats.ttest_1samp(d, border, alternative=side).pvalue)

    within = max(one_sided(-0.02, "greater"), one_sided(0.02, "less"))
    beyond = 2 * min(one_sided(-0.02, "less"), one_sided(0.02, "greater"))
    assert check.p == pytest.approx(min(within, beyond))
    where = "within" if within < beyond else "beyond"
    said = "< 0.001" if check.p < 0.001 else f"= {check.p:.3f}"
    assert f"p {said} that it lies {where} ±0.0200)" in finding_in_words(check)


def test_one_seed_decides_nothing() -> None:
    evaluation = judge({"base": [0.5], "arm": [0.1]}, expect("better"))
    assert evaluation.outcome == "undecided"
    assert "(1 seed, no spread to test with)" in conclusion(evaluation)
    tie = expect("no different", metric="validation_error", margin=0.01)  # by chance
    assert judge({"base": [0.5], "arm": [0.5]}, tie).outcome == "undecided"


def test_seeds_that_diverged_are_named_with_the_difference_that_leaves_them_out() -> None:
    some = [0.5, None, 0.52, 0.49, None], [0.3, 0.31, 0.321, None, 0.3]
    losses = dict(zip(("base", "arm"), some, strict=True))
    (found,) = against_base(comparison_view(losses), "validation_loss")
    of_arm, of_base = (
        f"{count} of 5 seeds of “{name}” diverged and cannot be compared"
        for count, name in ((1, "arm"), (2, "base"))
    )
    assert verdict_in_words(found) == f"better; {of_arm}; {of_base}"
    assert conclusion(judge(losses, expect())).endswith(f"); {of_arm}; {of_base}.")
    (count,) = judge(losses, expect(metric="parameters")).checks  # known of all
    assert "diverged" not in finding_in_words(count)
    failed = comparison_view(losses, reason="out of memory")
    assert verdict_in_words(difference(failed)) == "better"


@pytest.mark.parametrize(("images", "certain"), [(20, False), (149, False), (150, True)])
def test_a_difference_of_hardly_any_images_is_no_evidence(images: int, certain: bool) -> None:
    """The same images are judged in all seeds, so that seeds alone say nothing about chance."""
    by_repeat = dict(enumerate([0.05, 0.05, 0.05, 0.05, 0.0]))
    found = Difference(
        arm="a", than="b", metric="validation_accuracy", by_repeat=by_repeat, images=images
    )
    (one,) = with_tests([found])
    assert one.p_holm == pytest.approx(0.0161, abs=1e-4)
    assert (one.verdict == "better") == certain
    few = f": it is {0.04 * images:.1f} of {images} images, the same for all seeds"
    says = "better" if certain else f"no evidence of a difference{few}"
    assert verdict_in_words(one) == says
    assert finding_in_words(one).endswith("p = 0.016)" + ("" if certain else few))


def test_counts_need_no_test() -> None:
    view = comparison_view(
        {"base": [0.5], "arm": [None], "wide": [0.4]},  # known of what diverged, too
        values={"arm": {"dropout": 0.2}, "wide": {"channels": (16, 32)}},
        journal=[
            entry(expect("no different", metric="parameters", margin=1)),
            entry(expect("worse", arm="wide", metric="parameters")),
            entry(expect("no different", arm="wide", metric="parameters", margin=1)),
            entry(expect("better", metric="parameters")),
        ],
    )
    outcomes = [evaluation.outcome for evaluation in evaluate_journal(view)]
    assert outcomes == ["supported", "supported", "contradicted", "contradicted"]
    alike, wide = against_base(view, "parameters")
    assert (alike.mean, alike.verdict) == (0, "no evidence")
    assert (wide.verdict, wide.p) == ("worse", None)


def test_all_must_be_supported_and_one_contradiction_is_enough() -> None:
    arms = {"base": FIVE, "low": LOWER, "high": HIGHER, "noise": NOISE}
    low, high, noise = (expect("better", arm=name) for name in ("low", "high", "noise"))
    assert judge(arms, low, noise, high).outcome == "contradicted"
    text = conclusion(judge(arms, low, noise))
    assert text.startswith("Undecided as a whole. One by one, supported (expected: lower): ")
    assert judge(arms).outcome == "undecided"
    assert "has no expectation" in conclusion(judge(arms))


def test_expectations_are_corrected_together() -> None:
    # Barely significant on its own, but not when corrected for the others.
    arm = [0.46, 0.52, 0.455, 0.495, 0.48]
    arms = {"base": [0.5, 0.52, 0.49, 0.51, 0.50], "arm": arm, "noise": NOISE}
    assert judge(arms, expect("better")).outcome == "supported"
    others = [expect("worse", arm="noise", metric=f"validation_{m}") for m in ("error", "accuracy")]
    others += [expect("better", arm="noise"), expect("worse", arm="noise", metric="train_loss")]
    together = judge(arms, expect("better"), *others).checks
    raw = [check.p for check in together if check.p is not None]
    assert [check.p_holm for check in together] == pytest.approx(holm(raw))
    assert together[0].outcome == "undecided"
