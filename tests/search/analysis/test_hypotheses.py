"""Hypotheses that are true, false and undecidable by construction, on synthetic curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from search.analysis.comparison import Evaluation, evaluate_journal, holm
from search.pages.comparison import conclusion
from search.spec.arms import Expectation, JournalEntry
from tests.search.made_up_views import comparison_view


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


BASE = around(0.50, 0.005)
LOWER = around(0.40, 0.005, rng_seed=1)
HIGHER = around(0.60, 0.005, rng_seed=2)
ALIKE = around(0.50, 0.005, rng_seed=3)
NOISE = around(0.48, 0.2, rng_seed=4)
LOST = [None] * 5
OF_ARM = "the validation loss of “arm” is"


@pytest.mark.parametrize(
    ("arm", "outcome", "margin", "verdict", "says"),
    [
        (LOWER, "better", None, "supported", f"{OF_ARM} lower than that of “base” by 0.0991 (mean"),
        (LOWER, "worse", None, "contradicted", f"{OF_ARM} lower"),
        (HIGHER, "worse", None, "supported", f"{OF_ARM} higher"),
        (HIGHER, "better", None, "contradicted", f"{OF_ARM} higher"),
        (NOISE, "better", None, "undecided", "5 seeds"),
        (NOISE, "worse", None, "undecided", OF_ARM),
        (ALIKE, "no different", 0.02, "supported", OF_ARM),
        # Not found different, yet not shown alike: margins that these seeds cannot resolve.
        (NOISE, "no different", 0.02, "undecided", OF_ARM),
        (ALIKE, "no different", 0.0005, "undecided", OF_ARM),
        (LOWER, "no different", 0.02, "contradicted", OF_ARM),
        (HIGHER, "no different", 0.02, "contradicted", OF_ARM),
        (LOWER, "no different", 0.2, "supported", "lower"),  # for certain, but by less
        (BASE, "no different", 0.02, "supported", "equals"),
        (LOST, "worse", None, "supported", "“arm” diverged in every seed, which counts as worse"),
        (LOST, "better", None, "contradicted", "“arm” diverged"),
        (LOST, "no different", 0.1, "contradicted", "“arm” diverged"),
    ],
)
def test_a_hypothesis_is_decided_by_its_test(
    arm: Any, outcome: str, margin: float | None, verdict: str, says: str
) -> None:
    evaluation = judge({"base": BASE, "arm": arm}, *[expect(outcome, margin=margin)] * 2)
    assert (evaluation.outcome, len(evaluation.checks)) == (verdict, 1)  # said twice: one test
    assert conclusion(evaluation).startswith(f"{verdict.capitalize()}: ")
    assert says in conclusion(evaluation)


@pytest.mark.parametrize("metric", ["validation_error", "validation_accuracy", "train_loss"])
def test_better_is_lower_but_for_accuracy(metric: str) -> None:
    better = expect("better", metric=metric)
    assert judge({"base": BASE, "arm": LOWER}, better).outcome == "supported"


@pytest.mark.parametrize("arm", [ALIKE, LOWER, HIGHER])
def test_a_margin_is_tested_by_two_one_sided_tests(arm: list[float]) -> None:
    (check,) = judge({"base": BASE, "arm": arm}, expect("no different", margin=0.02)).checks
    d = np.subtract(arm, BASE)

    def one_sided(border: float, side: str) -> float:
        return float(stats.ttest_1samp(d, border, alternative=side).pvalue)

    within = max(one_sided(-0.02, "greater"), one_sided(0.02, "less"))
    beyond = 2 * min(one_sided(-0.02, "less"), one_sided(0.02, "greater"))
    assert check.difference.p == pytest.approx(min(within, beyond))


def test_one_seed_decides_nothing() -> None:
    evaluation = judge({"base": [0.5], "arm": [0.1]}, expect("better"))
    assert evaluation.outcome == "undecided"
    assert "(1 seed, no spread to test with)" in conclusion(evaluation)


def test_counts_need_no_test() -> None:
    view = comparison_view(
        {"base": [0.5], "arm": [0.4], "wide": [0.4]},
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


def test_all_must_be_supported_and_one_contradiction_is_enough() -> None:
    arms = {"base": BASE, "low": LOWER, "high": HIGHER, "noise": NOISE}
    low, high, noise = (expect("better", arm=name) for name in ("low", "high", "noise"))
    assert judge(arms, low, noise, high).outcome == "contradicted"
    text = conclusion(judge(arms, low, noise))
    assert text.startswith("Undecided as a whole. One by one, supported: ")
    assert judge(arms).outcome == "undecided"
    assert "expects nothing" in conclusion(judge(arms))


def test_expectations_are_corrected_together() -> None:
    # A difference that is barely significant on its own, and not beside others.
    arm = [0.46, 0.52, 0.455, 0.495, 0.48]
    arms = {"base": [0.5, 0.52, 0.49, 0.51, 0.50], "arm": arm, "noise": NOISE}
    assert judge(arms, expect("better")).outcome == "supported"
    others = [expect("worse", arm="noise", metric=f"validation_{m}") for m in ("error", "accuracy")]
    others += [expect("better", arm="noise"), expect("worse", arm="noise", metric="train_loss")]
    together = judge(arms, expect("better"), *others).checks
    raw = [check.difference.p for check in together if check.difference.p is not None]
    assert [check.difference.p_holm for check in together] == pytest.approx(holm(raw))
    assert together[0].outcome == "undecided"
