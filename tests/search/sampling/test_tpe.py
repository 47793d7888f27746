"""Draw for draw the same as Optuna's own sampler, on made-up histories of every kind."""

import math
import random
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.trial import Trial, TrialState

from search.sampling.choosing import STARTUP_TRIALS, make_sampler
from search.sampling.gaussian_process import MODELLED_TRIALS
from search.sampling.parzen import log_density
from search.sampling.tpe import Memory, RememberingTPESampler
from search.spec.config import StudySpec


def suggest(trial: Trial, *, all_of_them: bool = True) -> dict[str, object]:
    """Every kind of parameter; one that not all trials have is drawn on its own."""
    trial.suggest_float("learning_rate", 1e-4, 1, log=True)
    trial.suggest_float("dropout", 0, 0.5)
    trial.suggest_float("share", 0, 1, step=0.25)
    trial.suggest_int("width", 8, 64, step=8)
    trial.suggest_int("hidden", 1, 1000, log=True)
    trial.suggest_categorical("kind", ["none", "coupled", None, 3])
    if all_of_them:
        trial.suggest_float("momentum", 0, 1)
    return trial.params


def live(study: optuna.Study, dice: random.Random, *, some_lack_one: bool) -> None:
    """One trial, from asking to one of its possible ends, or to none."""
    trial = study.ask()
    suggest(trial, all_of_them=not some_lack_one or dice.random() < 0.8)
    losses = [
        dice.choice([dice.random(), 0.5, 0.0, math.nan, math.inf]) for _ in range(dice.randrange(5))
    ]
    for step, loss in enumerate(losses):
        trial.report(loss, step)
    match dice.choice(["complete", "complete", "pruned", "pruned", "failed", "running"]):
        case "complete":
            study.tell(trial, dice.choice([dice.random(), 0.5, math.inf]))
        case "pruned":
            study.tell(trial, state=TrialState.PRUNED)
        case "failed":
            study.tell(trial, state=TrialState.FAIL)


def history(seed: int, trials: int, *, some_lack_one: bool) -> optuna.Study:
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    dice = random.Random(seed)
    for _ in range(trials):
        live(study, dice, some_lack_one=some_lack_one)
    return study


@pytest.mark.parametrize("some_lack_one", [False, True])
@pytest.mark.parametrize("trials", [0, 8, 20, 60, 300])
def test_the_draws_are_optunas(trials: int, some_lack_one: bool) -> None:
    theirs, ours = (history(trials, trials, some_lack_one=some_lack_one) for _ in range(2))
    memory = Memory()
    drawn = set()
    for seed in range(12):
        theirs.sampler = TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        ours.sampler = RememberingTPESampler(memory, seed=seed, n_startup_trials=STARTUP_TRIALS)
        expected = suggest(theirs.ask())
        assert suggest(ours.ask()) == expected
        drawn.add(str(expected))
        # What is asked for above runs on, and these end in between.
        for study in (theirs, ours):
            study.sampler = RandomSampler(seed=seed)
            live(study, random.Random(seed), some_lack_one=some_lack_one)
    assert len(drawn) == 12


@pytest.mark.parametrize("trials", [0, 9, 20, 60, MODELLED_TRIALS + 5])
def test_whatever_became_of_earlier_trials_a_gaussian_process_draws_in_the_space(
    trials: int,
) -> None:
    study = history(trials, trials, some_lack_one=True)
    study.sampler = make_sampler(StudySpec(dataset="digits", epochs=6))
    drawn = set()
    for _ in range(4):
        params = suggest(study.ask())  # refuses what lies outside
        width, share = params["width"], params["share"]
        assert isinstance(width, int)
        assert isinstance(share, float)
        assert width % 8 == 0
        assert share % 0.25 == 0
        drawn.add(str(params))
    assert len(drawn) == 4


@pytest.mark.parametrize("trials", [0, 1, 7, 200])
def test_densities_are_optunas_to_the_bit(trials: int) -> None:
    space = create_space()
    dice = np.random.RandomState(trials)
    observations = {
        name: np.array([draw(distribution, dice) for _ in range(trials)])
        for name, distribution in space.items()
    }
    sampler = TPESampler()
    estimator = _ParzenEstimator(observations, space, sampler._parzen_estimator_parameters)
    candidates = estimator.sample(dice, 50)
    for name, distribution in space.items():  # and the ends of every range
        if not isinstance(distribution, CategoricalDistribution):
            candidates[name][:2] = distribution.low, distribution.high
    expected = estimator.log_pdf(candidates)
    assert np.isfinite(expected).all()
    assert log_density(estimator, candidates).tolist() == expected.tolist()


def create_space() -> dict[str, Any]:
    trial = optuna.create_study(sampler=RandomSampler(seed=0)).ask()
    suggest(trial)
    return dict(trial.distributions)


def draw(distribution: Any, dice: np.random.RandomState) -> float:
    """In Optuna's internal form; often at the ends, and often the same."""
    if isinstance(distribution, CategoricalDistribution):
        return float(dice.randint(len(distribution.choices)))
    ends = (distribution.low, distribution.high)
    value = dice.choice([*ends, dice.uniform(*ends)])
    if distribution.step is None:
        return float(value)
    steps = round((value - distribution.low) / distribution.step)
    return float(distribution.low + steps * distribution.step)


def test_trials_that_end_out_of_order() -> None:
    theirs, ours = (optuna.create_study(sampler=RandomSampler(seed=1)) for _ in range(2))
    memory = Memory()
    held: dict[optuna.Study, list[Trial]] = {theirs: [], ours: []}
    for seed in range(60):
        theirs.sampler = TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        ours.sampler = RememberingTPESampler(memory, seed=seed, n_startup_trials=STARTUP_TRIALS)
        for study, trials in held.items():
            dice = random.Random(seed)
            trials.append(study.ask())
            suggest(trials[-1])
            if len(trials) > 4:
                study.tell(trials.pop(dice.randrange(4)), dice.random())
    assert [trial.params for trial in ours.trials] == [trial.params for trial in theirs.trials]


def test_beside_our_own_pruner_the_rungs_say_which_trials_are_good() -> None:
    """A bad trial that was completed without rivals teaches nothing; Optuna would copy it."""
    memory = Memory(rungs=[1, 2])
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for number in range(20):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.report(90.0 if number == 0 else 1.0 + number, 1)
        if number == 0:
            study.tell(trial, 90.0)
        else:
            study.tell(trial, state=TrialState.PRUNED)
    memory.learn(study.get_trials(deepcopy=False))
    good, others = memory.split()
    assert memory.numbers(good).tolist() == [1, 2]
    assert memory.numbers(others).tolist() == [0, *range(3, 20)]
