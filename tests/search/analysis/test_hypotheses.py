"""Hypotheses that are true, false and undecidable by construction, on synthetic curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from search.analysis.comparison import Evaluation, evaluate_journal, holm
from search.pages.comparison import conclusion
from search.spec.arms import Expectation, JournalEntry

Make = Callable[..., Any]


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


@pytest.fixture
def judge(make_comparison: Make) -> Callable[..., Evaluation]:
    def make(losses: dict[str, Sequence[float | None]], *expectations: Expectation) -> Evaluation:
        view = make_comparison(losses, journal=[entry(*expectations)])
        (evaluation,) = evaluate_journal(view)
        return evaluation

    return make


def around(middle: float, spread: float, seeds: int = 5, rng_seed: int = 0) -> list[float]:
    """Losses of several seeds that vary by chance."""
    return list(np.random.default_rng(rng_seed).normal(middle, spread, seeds))


BASE = around(0.50, 0.005)
LOWER = around(0.40, 0.005, rng_seed=1)
HIGHER = around(0.60, 0.005, rng_seed=2)
ALIKE = around(0.50, 0.005, rng_seed=3)
NOISE = around(0.48, 0.2, rng_seed=4)


def test_a_hypothesis_that_is_true(judge: Callable[..., Evaluation]) -> None:
    evaluation = judge({"base": BASE, "arm": LOWER}, expect("better"), expect("better"))
    assert (evaluation.outcome, len(evaluation.checks)) == ("supported", 1)  # said twice: one test
    assert conclusion(evaluation).startswith(
        "Supported: the validation loss of “arm” is lower than that of “base” by 0.0991"
    )
    assert "5 seeds" in conclusion(evaluation)
    assert judge({"base": BASE, "arm": HIGHER}, expect("worse")).outcome == "supported"
    for metric in ("validation_error", "validation_accuracy", "train_loss"):
        better = expect("better", metric=metric)
        assert judge({"base": BASE, "arm": LOWER}, better).outcome == "supported", metric


def test_a_hypothesis_that_is_false(judge: Callable[..., Evaluation]) -> None:
    evaluation = judge({"base": BASE, "arm": HIGHER}, expect("better"))
    assert evaluation.outcome == "contradicted"
    assert conclusion(evaluation).startswith("Contradicted: the validation loss of “arm” is higher")
    assert judge({"base": BASE, "arm": LOWER}, expect("worse")).outcome == "contradicted"


def test_a_hypothesis_that_cannot_be_decided(judge: Callable[..., Evaluation]) -> None:
    evaluation = judge({"base": BASE, "arm": NOISE}, expect("better"))
    assert evaluation.outcome == "undecided"
    assert conclusion(evaluation).startswith("Undecided: the validation loss of “arm” is")
    assert judge({"base": BASE, "arm": NOISE}, expect("worse")).outcome == "undecided"
    one_seed = judge({"base": [0.5], "arm": [0.1]}, expect("better"))
    assert one_seed.outcome == "undecided"
    assert "(1 seed, no spread to test with)" in conclusion(one_seed)


def test_no_difference_is_shown_not_assumed(judge: Callable[..., Evaluation]) -> None:
    same = expect("no different", margin=0.02)
    assert judge({"base": BASE, "arm": ALIKE}, same).outcome == "supported"
    # Not found different, yet not shown alike: a margin that these seeds cannot resolve.
    assert judge({"base": BASE, "arm": NOISE}, same).outcome == "undecided"
    narrow = expect("no different", margin=0.0005)
    assert judge({"base": BASE, "arm": ALIKE}, narrow).outcome == "undecided"
    assert judge({"base": BASE, "arm": LOWER}, same).outcome == "contradicted"
    assert judge({"base": BASE, "arm": HIGHER}, same).outcome == "contradicted"
    # Different for certain, but by less than the margin.
    assert judge({"base": BASE, "arm": LOWER}, expect("no different", margin=0.2)).outcome == (
        "supported"
    )
    assert judge({"base": BASE, "arm": BASE}, same).outcome == "supported"


def test_an_arm_that_always_diverged_is_worse(judge: Callable[..., Evaluation]) -> None:
    lost: dict[str, Any] = {"base": BASE, "arm": [None] * 5}
    assert judge(lost, expect("worse")).outcome == "supported"
    better = judge(lost, expect("better"))
    assert better.outcome == "contradicted"
    assert "“arm” diverged in every seed, which counts as worse" in conclusion(better)
    assert judge(lost, expect("no different", margin=0.1)).outcome == "contradicted"


def test_counts_need_no_test(make_comparison: Make) -> None:
    view = make_comparison(
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


def test_all_must_be_supported_and_one_contradiction_is_enough(
    judge: Callable[..., Evaluation],
) -> None:
    arms = {"base": BASE, "low": LOWER, "high": HIGHER, "noise": NOISE}
    low, high, noise = (expect("better", arm=name) for name in ("low", "high", "noise"))
    assert judge(arms, low).outcome == "supported"
    assert judge(arms, low, noise).outcome == "undecided"
    assert judge(arms, low, noise, high).outcome == "contradicted"
    text = conclusion(judge(arms, low, noise))
    assert text.startswith("Undecided as a whole. One by one, supported: ")
    nothing = judge(arms)
    assert nothing.outcome == "undecided"
    assert "expects nothing" in conclusion(nothing)


def test_expectations_are_corrected_together(judge: Callable[..., Evaluation]) -> None:
    # A difference that is barely significant on its own, and not beside others.
    arm = [0.46, 0.52, 0.455, 0.495, 0.48]
    arms = {"base": [0.5, 0.52, 0.49, 0.51, 0.50], "arm": arm, "low": LOWER, "noise": NOISE}
    (alone,) = judge(arms, expect("better")).checks
    assert alone.difference.p is not None
    assert 0.01 < alone.difference.p < 0.05  # five times as much is not
    assert alone.outcome == "supported"
    others = [expect("better", arm="noise"), expect("worse", arm="noise", metric="train_loss")]
    many = [expect("worse", arm="noise", metric=f"validation_{m}") for m in ("error", "accuracy")]
    together = judge(arms, expect("better"), *others, *many).checks
    raw = [check.difference.p for check in together if check.difference.p is not None]
    assert [check.difference.p_holm for check in together] == pytest.approx(holm(raw))
    assert together[0].outcome == "undecided"
