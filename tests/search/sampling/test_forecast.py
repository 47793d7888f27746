import math

import pytest

from search.sampling.forecast import SEED_SD, UNKNOWN_SD, Contender, State, fit


def trial(*logs: float, complete: bool = False) -> Contender:
    """Reports after the partial epoch (0) and epochs 1, 2, ...: logarithms of losses."""
    losses = {epoch: math.exp(log) for epoch, log in enumerate(logs)}
    state: State = "complete" if complete else "pruned"
    return Contender(number=0, state=state, params={}, curve=losses)


def test_a_stopped_trial_is_expected_to_fall_as_the_others_did() -> None:
    curves = [
        trial(1.0, 0.0, -0.2, -0.5, complete=True),
        trial(1.0, 0.1, -0.3, -0.7, complete=True),
        trial(1.0, 0.0, -0.3),
        trial(1.0, 0.2),
        trial(0.5),
    ]
    forecast = fit(curves, epochs=3)
    last = (0.3 + 0.4) / 2
    second = (0.2 + 0.4 + 0.3) / 3 + last
    first = (1.0 + 0.9 + 1.0 + 0.8) / 4 + second
    expected = [-0.5, -0.7, -0.3 - last, 0.2 - second, 0.5 - first]
    found = [forecast.estimate_final(t.curve, complete=t.state == "complete") for t in curves]
    assert all(found)
    means, sds = zip(*(estimate for estimate in found if estimate), strict=True)
    assert means == pytest.approx(expected)
    assert sds[0] == sds[1] == SEED_SD < sds[2] < sds[3] < sds[4]


def test_what_is_lowest_so_far_counts_and_what_is_not_finite_does_not() -> None:
    forecast = fit([trial(1.0, 0.0, -1.0, complete=True)], epochs=2)
    early = {0: math.exp(1.0), 1: math.exp(0.5), 2: math.nan}
    assert forecast.estimate_final(early) == pytest.approx((-0.5, math.hypot(SEED_SD, UNKNOWN_SD)))
    assert forecast.estimate_final({0: math.nan}) is None
    assert forecast.estimate_final({}) is None
    assert forecast.estimate_final({}, complete=True) is None


def test_one_that_ended_early_by_patience_fell_no_further() -> None:
    patient = trial(1.0, 0.5, 0.7, complete=True)
    assert fit([patient], epochs=9).falls == pytest.approx((-0.5, 0.0, 0.0, 0.0, 0.0))
    assert fit([], epochs=9).falls == (0.0,) * 5
