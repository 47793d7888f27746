from __future__ import annotations

import math
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from search.analysis.comparison import DIVERGED, Difference, against_base, holm, runs_by_arm
from search.running.trial import DivergedError, describe
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


def test_the_direction_follows_the_metric() -> None:
    arm = [0.41, 0.45, 0.38, 0.44]
    view = comparison_view({"base": BASE, "arm": arm})
    for metric in ("validation_error", "validation_accuracy", "train_loss", "train_accuracy"):
        assert difference(view, metric).verdict == "better", metric
    accuracy, error = (difference(view, f"validation_{name}") for name in ("accuracy", "error"))
    assert accuracy.mean == pytest.approx(-(error.mean or 0))
    assert accuracy.p == pytest.approx(error.p)


def test_pairs_are_of_the_same_seed_only() -> None:
    # The common ups and downs of the seeds are far larger than the difference.
    base = [0.5, 0.7, 0.3, 0.9]
    arm = [0.51, 0.7095, 0.3105, 0.91]
    assert difference(comparison_view({"base": base, "arm": arm})).verdict == "worse"
    mixed = [0.91, 0.3105, 0.7095, 0.51]
    assert difference(comparison_view({"base": base, "arm": mixed})).verdict == "no evidence"
    some = difference(comparison_view({"base": [0.5, None, 0.3], "arm": [0.4, 0.6, 0.25]}))
    assert dict(some.by_repeat) == pytest.approx({0: -0.1, 2: -0.05})


def test_what_cannot_be_tested_is_no_evidence() -> None:
    one = difference(comparison_view({"base": [0.5], "arm": [0.1]}))
    assert (one.verdict, one.p, one.low) == ("no evidence", None, None)
    same = difference(comparison_view({"base": BASE, "arm": BASE}))
    assert (same.verdict, same.p) == ("no evidence", None)
    # But for rounding the same in each seed: p would be 0 for want of a spread.
    shifted = difference(comparison_view({"base": BASE, "arm": [loss + 0.1 for loss in BASE]}))
    assert (shifted.verdict, shifted.p) == ("no evidence", None)
    none = difference(comparison_view({"base": [0.5, None], "arm": [None, 0.4]}))
    assert (none.verdict, none.mean) == ("no evidence", None)


def test_an_arm_that_always_diverged_is_worse() -> None:
    view = comparison_view({"base": [0.5, 0.6], "arm": [None, None]})
    assert (difference(view).diverged, difference(view).verdict) == ("arm", "worse")
    turned = comparison_view({"base": [None, None], "arm": [0.5, 0.6]})
    assert difference(turned).verdict == "better"
    both = comparison_view({"base": [None, None], "arm": [None, None]})
    assert difference(both).verdict == "no evidence"
    # Not where it may still train, nor where something else stopped it.
    going_on = comparison_view({"base": [0.5, 0.6], "arm": [None]}, repeats=2)
    assert difference(going_on).verdict == "no evidence"
    crashed = comparison_view({"base": [0.5, 0.6], "arm": [None, None]}, reason="out of memory")
    assert difference(crashed).verdict == "no evidence"
    assert runs_by_arm(crashed)["arm"].diverged == 0


def test_a_diverged_trial_is_known_by_what_the_loop_writes() -> None:
    assert describe(DivergedError("diverged: train loss became nan")).startswith(DIVERGED)
    assert not describe(RuntimeError("diverged")).startswith(DIVERGED)
    assert not describe(MemoryError()).startswith(DIVERGED)


def test_parameters_are_counted_not_tested() -> None:
    values = {"wide": {"channels": (16, 32)}, "dropout": {"dropout": 0.5}}
    view = comparison_view({"base": [0.5], "wide": [0.4], "dropout": [None]}, values=values)
    wide, dropout = against_base(view, "parameters")
    assert (wide.verdict, wide.p) == ("worse", None)
    assert (dropout.mean, dropout.verdict) == (0, "no evidence")  # though it diverged


def test_holm_is_uniformly_between_raw_and_bonferroni() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 9):
        raw = rng.uniform(0, 0.3, size)
        found = np.array(holm(list(raw)))
        assert np.all(found >= raw)
        assert np.all(found <= np.minimum(1, size * raw) + 1e-12)
        assert np.all(np.diff(found[np.argsort(raw)]) >= 0)  # the order stays
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.02, 0.02, 0.5, 0.9]) == pytest.approx([0.08, 0.08, 1.0, 1.0])
    assert (holm([0.3]), holm([])) == ([0.3], [])


def test_arms_are_corrected_together() -> None:
    arms = {"base": BASE, "a": [0.46, 0.47, 0.45, 0.46], "b": [0.48, 0.53, 0.44, 0.49]}
    view = comparison_view({**arms, "lost": [None] * 4})
    a, b, lost = against_base(view, "validation_loss")
    assert a.p is not None
    assert b.p is not None
    assert [a.p_holm, b.p_holm, lost.p_holm] == [*holm([a.p, b.p]), None]


def test_an_interval_leaves_zero_out_where_the_corrected_test_finds_something() -> None:
    rng, seen = np.random.default_rng(2), set()
    for _ in range(100):
        arms = {"base": list(rng.normal(0.5, 0.01, 3))}
        arms |= {name: list(rng.normal(0.48, 0.01, 3)) for name in "abc"}
        for one in against_base(comparison_view(arms), "validation_loss"):
            assert one.p is not None
            assert one.low is not None
            assert one.high is not None
            assert (one.low > 0 or one.high < 0) == one.is_certain
            seen.add((one.is_certain, one.p < 0.05))
    assert seen == {(False, False), (False, True), (True, True)}


def test_false_findings_are_as_rare_as_promised() -> None:
    """Arms that differ from the base by chance alone, 200 studies of four arms and five seeds."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        losses = rng.normal(0.5, 0.02, (4, 5))
        view = comparison_view({f"arm {i}": list(row) for i, row in enumerate(losses)})
        wrong += any(d.verdict != "no evidence" for d in against_base(view, "validation_loss"))
    assert wrong <= 18  # 5 % of 200 is 10; more than 18 has a chance of 0.5 %
