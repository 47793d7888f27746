"""The Gaussian process: what it makes of stopped trials, where it draws, and when it leaves it."""

import math
import random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import Trial, TrialState

from search.sampling.choosing import make_sampler
from search.sampling.gaussian_process import (
    MODELLED_TRIALS,
    SEED_NOISE,
    estimated_ends,
    expected_improvement,
)
from search.spec.config import StudySpec


def test_a_stopped_trial_is_thought_to_fall_as_the_others_did() -> None:
    nan = math.nan
    losses_TR = np.exp(
        [  # rungs 0, 1, 2 and the end
            [1.0, 0.0, -0.2, -0.5],
            [1.0, 0.1, -0.3, -0.7],
            [1.0, 0.0, -0.3, nan],
            [1.0, 0.2, nan, nan],
            [0.5, nan, nan, nan],
        ]
    )
    ends_T, noises_T = estimated_ends(losses_TR, [0, 1, 2])
    falls = [(0.2 + 0.4 + 0.3) / 3, (0.3 + 0.4) / 2]
    expected = [-0.5, -0.7, -0.3 - falls[1], 0.2 - falls[0] - falls[1], nan]
    np.testing.assert_allclose(ends_T, expected)
    assert noises_T[0] == noises_T[1] == SEED_NOISE
    assert SEED_NOISE < noises_T[2] < noises_T[3]


def test_a_diverged_trial_is_as_bad_as_the_worst() -> None:
    ends_T, _ = estimated_ends(np.array([[0.5, 0.4], [math.inf, math.inf], [2.0, 0.9]]), [1])
    assert ends_T[1] == math.log(2.0)
    assert np.isfinite(estimated_ends(np.full((2, 2), math.inf), [1])[0]).all()


def improvement(pending: list[float], candidates: list[float]) -> Any:
    known_TF = np.linspace(0, 1, 9)[:, None]
    return expected_improvement(
        known_TF,
        (known_TF[:, 0] - 0.6) ** 2,
        np.full(9, 1e-3),
        pending_AF=np.array(pending).reshape(-1, 1),
        candidates_CF=np.array(candidates)[:, None],
    )


def test_improvement_is_expected_near_the_lowest_and_not_where_it_is_being_tried() -> None:
    far, near = improvement([], [0.05, 0.59])
    assert near > 10 * far
    _, tried = improvement([0.59], [0.05, 0.59])
    assert tried < near / 2


def suggest(trial: Trial) -> float:
    """A made-up final loss: depends on four kinds of parameters, and on noise."""
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    depth = trial.suggest_int("depth", 1, 4)
    width = trial.suggest_int("width", 8, 64, step=8)
    share = trial.suggest_float("share", 0, 1, step=0.25)
    kind = trial.suggest_categorical("kind", ["a", "b", None])
    away = (math.log10(rate) + 2.5) ** 2 + (depth - 3) ** 2 / 4 + (width - 48) ** 2 / 900
    away += (share - 0.25) ** 2 + {"a": 0.3, "b": 0.0, None: 0.5}[kind]
    noise = random.Random(trial.number).gauss(0, 0.02)
    return float(0.3 * math.exp(away / 4 + noise))


def lowest(sampler: BaseSampler, trials: int) -> float:
    """Of a study whose trials are stopped after epoch 1 unless they are among the best third."""
    study = optuna.create_study(sampler=sampler)
    firsts: list[float] = []
    for _ in range(trials):
        trial = study.ask()
        end = suggest(trial)
        first = end * 1.5
        trial.report(3 * first, 0)
        trial.report(first, 1)
        going_on = sum(other < first for other in firsts) <= len(firsts) / 3
        firsts.append(first)
        if going_on:
            trial.report(end, 2)
            study.tell(trial, end)
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return study.best_value


def test_it_finds_lower_losses_than_tpe_and_random_draws_do() -> None:
    """Means of eight studies of 40 trials each. The lowest possible loss is about 0.3."""

    def mean(sampler: Any) -> float:
        specs = [StudySpec(dataset="digits", sampler=sampler, epochs=2, seed=s) for s in range(8)]
        return float(np.mean([lowest(make_sampler(spec), 40) for spec in specs]))

    ours = mean("gp")
    assert ours < mean("tpe")
    assert ours < mean("random")
    assert ours < 0.315


@pytest.mark.parametrize("trials", [MODELLED_TRIALS - 1, MODELLED_TRIALS])
def test_from_a_hundred_trials_on_tpe_goes_on(trials: int) -> None:
    draws = []
    for sampler in ("gp", "tpe"):
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        for _ in range(trials):
            trial = study.ask()
            study.tell(trial, suggest(trial))
        study.sampler = make_sampler(StudySpec(dataset="digits", sampler=sampler))
        trial = study.ask()
        suggest(trial)
        draws.append(trial.params)
    assert (draws[0] == draws[1]) is (trials == MODELLED_TRIALS)
