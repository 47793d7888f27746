"""Forecasts of final objectives, learned from the study and, before it, from other data sets."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.sampling.forecast import MOST, SEED_SD, Contender, fit, informative, support
from search.sampling.priors import FEATURES
from search.store.views import State


def trial(
    number: int, state: State, params: Mapping[str, Any], curve: Mapping[int, float]
) -> Contender:
    return Contender(number=number, state=state, params=params, recorded=params, curve=curve)


def made_up(count: int, seed: int, *, late: float = 0.2) -> list[Contender]:
    """Whole curves of 4 epochs: configurations with much dropout fall later, and all noisily."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        dropout, level = rng.uniform(0, 0.5), rng.normal(0, 0.3)
        end = level - 0.4 - late * (4 * dropout - 1) + rng.normal(0, 0.02)
        logs = np.linspace(level, end, 5)
        curve = {epoch: math.exp(log) for epoch, log in enumerate(logs)}
        found.append(trial(number, "complete", {"dropout": dropout}, curve))
    return found


def cut(whole: Contender, epoch: int) -> Contender:
    curve = {at: it for at, it in whole.curve.items() if at <= epoch}
    return replace(whole, state="paused", curve=curve)


def errors(known: int, prior: Path | None, seed: int = 1) -> np.ndarray:
    """Errors of forecasts after one epoch, in standard deviations and in logarithms, (2, N)."""
    trials = made_up(60, seed=seed)
    seen, young = trials[:known], [cut(one, 1) for one in trials[known:]]
    estimates = fit([*seen, *young], 4, prior).estimates(young)
    mean_N, sd_N = np.array([estimates[one.number] for one in young]).T
    off_N = mean_N - np.array([whole.level() for whole in trials[known:]])
    return np.stack([off_N / sd_N, off_N])


def prior_file(folder: Path, slope: float, noise: float = 0.2, *, feature: str = "dropout") -> Path:
    """A prior that is sure how a feature changes the fall and the final value."""
    promised = [slope if name == feature else 0.0 for name in FEATURES]
    file = folder / f"prior{slope}.json"
    numbers = {"falls": -1.0, "level": 0.0, "falls_sd": 1.0, "level_sd": 0.3, "promised_sd": 0.1}
    table = {name: [number] for name, number in {**numbers, "noise": noise}.items()}
    table |= {"features": FEATURES, "scale": [-1.0, 0.5], "fractions": [0.5]}
    file.write_text(
        json.dumps({**table, "promised": [promised], "starts": promised, "ends": promised})
    )
    return file


def test_a_prior_predicts_which_curves_fall_late_and_a_wrong_one_is_overruled(
    tmp_path: Path,
) -> None:
    def rms(known: int, prior: Path | None) -> float:
        return float(np.sqrt(np.mean(errors(known, prior)[1] ** 2)))

    right, inverted = prior_file(tmp_path, -1.2), prior_file(tmp_path, 1.2)
    assert rms(3, right) < 0.6 * rms(3, None)
    assert rms(3, inverted) > 1.2 * rms(3, right)
    assert rms(25, inverted) < 1.15 * rms(25, None) < rms(3, None)


@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_four_of_five_ends_lie_in_the_80_percent_interval(tmp_path: Path, noise: float) -> None:
    """Also if the prior expects less noise than another seed would make: final values are known."""
    prior = prior_file(tmp_path, -1.2, noise)
    off = np.concatenate([errors(30, prior, seed)[0] for seed in range(8)])
    assert 0.7 < np.mean(np.abs(off) < 1.2816) < 0.9


def test_final_values_are_known_and_trials_without_reports_not_forecast() -> None:
    whole = made_up(8, seed=0)
    forecast = fit(whole, 4, None)
    assert forecast.estimates(whole[:1]) == {0: (whole[0].level(), SEED_SD)}
    states: tuple[State, ...] = ("running", "complete")
    for state in states:
        for curve in ({}, {0: math.nan}):
            silent = trial(9, state, {"dropout": 0.1}, curve)
            assert not forecast.estimates([silent])
            assert fit([*whole, silent], 4, None).estimates(whole[:1])
    risen = cut(whole[1], 1)
    risen = replace(risen, curve={**risen.curve, 2: 9.0, 3: math.nan})
    assert forecast.estimates([risen])[1][0] <= risen.level() == math.log(risen.curve[1])


def test_a_forecast_without_finished_trials_is_uncertain() -> None:
    young = cut(made_up(1, seed=0)[0], 0)
    assert fit([young], 4, None).estimates([young])[0][1] > 0.1


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
def test_how_much_configurations_differ_is_learned(tmp_path: Path, scale: float) -> None:
    """All falls of a data set may be larger or smaller than those of others by this factor."""
    prior = prior_file(tmp_path, -1.2)

    def stretched(one: Contender) -> Contender:
        return replace(one, curve={at: it**scale for at, it in one.curve.items()})

    trials = list(map(stretched, made_up(60, seed=1)))
    young = [cut(trial, 1) for trial in trials[15:]]
    found = fit([*trials[:15], *young], 4, prior).estimates(young)
    off = np.array([found[it.number][0] - it.level() for it in trials[15:]])
    assert np.sqrt(np.mean(off**2)) < 0.06 * scale
    held = [abs(it) < 1.2816 * found[one.number][1] for it, one in zip(off, young, strict=True)]
    assert np.mean(held) > 0.6


def test_first_levels_support_a_prior_or_contradict_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def first(number: int, dropout: float) -> Contender:
        level = math.exp(0.1 * dropout + rng.normal(0, 0.01))  # the more dropout, the slower
        return trial(number, "paused", {"dropout": dropout}, {0: level})

    right, inverted = prior_file(tmp_path, 1.2), prior_file(tmp_path, -1.2)
    ten = [first(number, rng.uniform(0, 0.5)) for number in range(10)]
    assert support(ten, right) > 1
    assert support(ten, inverted) < -3
    alike = [first(number, 0.25 + rng.uniform(0, 0.01)) for number in range(10)]
    for trials, prior in ((alike, inverted), (ten[:3], inverted), (ten, None)):
        assert support(trials, prior) == pytest.approx(0, abs=0.1)


def test_untried_values_keep_what_other_data_sets_say(tmp_path: Path) -> None:
    """Only deep networks were trained; the lower they start, the less they fall."""
    prior = prior_file(tmp_path, -1.0, feature="depth")
    known = []
    for number in range(12):
        level = 0.05 * (number % 6)
        ends = (level, 0.6 * level - 0.9)
        curve = {epoch: math.exp(log) for epoch, log in enumerate(np.linspace(*ends, 5))}
        known.append(trial(number, "complete", {"depth": 5}, curve))
    deep, flat = (trial(20 + n, "paused", {"depth": n}, {0: 1.0}) for n in (5, 2))
    found = fit([*known, deep, flat], 4, prior).estimates([deep, flat])
    assert found[22][0] - found[25][0] > 0.15


def test_a_partial_epoch_counts_only_until_a_whole_one_is_reported() -> None:
    """As for a trial's value: on a third of few validation images, an error is easily 0."""
    lucky = trial(0, "complete", {"depth": 3}, {0: 0.0, 1: 0.5, 2: 0.3, 3: 0.4})
    assert math.exp(cut(lucky, 0).level()) == math.exp(lucky.level(0)) == pytest.approx(1e-12)
    assert [math.exp(lucky.level(rung)) for rung in (1, 2, 3)] == pytest.approx([0.5, 0.3, 0.3])
    assert math.exp(lucky.level()) == pytest.approx(0.3)
    assert math.isnan(replace(lucky, curve={0: 0.2, 1: math.nan}).level())
    middling = [trial(n, "pruned", {"depth": 3}, {0: 0.0, 1: 0.5}) for n in range(100)]
    good = [trial(n, "pruned", {"depth": 3}, {0: 0.9, 1: 0.4}) for n in range(MOST)]
    many = [*good, *(replace(it, number=it.number + MOST) for it in middling)]
    assert informative(many) == [*good, *many[-MOST:]]
