import math

import optuna
import pytest

from search.trials.choosing import (
    HalvingPruner,
    is_rung,
    make_pruner,
    make_sampler,
    worth_continuing,
)
from search.trials.config import StudySpec
from search.trials.space import OVERRIDES


def test_rungs() -> None:
    assert [epoch for epoch in range(20) if is_rung(epoch)] == [0, 1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("value", "rivals", "goes_on"),
    [
        (9.0, [], True),
        (9.0, [1.0], True),  # too few to tell
        (1.0, [1.0, 2.0], True),  # the first of three, if not alone
        (1.1, [1.0, 2.0], False),
        (1.1, [1.0, 2.0, 3.0], True),  # the second of four
        (2.1, [1.0, 2.0, 3.0], False),
        (2.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], True),  # the third of seven
        (3.5, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], False),
        (2.1, [1.0, math.nan, math.inf], True),  # those are no rivals
        (math.nan, [], False),
        (math.inf, [], False),
    ],
)
def test_worth_continuing(value: float, rivals: list[float], goes_on: bool) -> None:
    assert worth_continuing(value, rivals) is goes_on


def pruned_at(curve: list[float], others: dict[int, list[float]], **attributes: object) -> int:
    """The step at which a trial with these losses is stopped; -1 if it never is."""
    pruner = HalvingPruner(lambda epoch: enumerate(others.get(epoch, []), start=100))
    study = optuna.create_study(pruner=pruner)
    study.enqueue_trial({}, user_attrs=attributes)
    trial = study.ask()
    for step, loss in enumerate(curve):
        trial.report(loss, step)
        if trial.should_prune():
            return step
    return -1


def test_the_worse_ones_stop_at_a_rung() -> None:
    others = {0: [2.0, 2.0], 1: [1.0, 1.0], 2: [0.5, 0.5], 4: [0.2, 0.2]}
    assert pruned_at([3.0], others) == 0
    assert pruned_at([1.0, 1.5], others) == -1  # its best so far, 1.0, was early
    assert pruned_at([2.0, 1.5], others) == 1
    assert pruned_at([2.0, 1.0, 0.9], others) == 2
    assert pruned_at([2.0, 1.0, 0.5, 0.4, 0.3], others) == 4
    assert pruned_at([2.0, 1.0, 0.5, 9.0, 0.1], others) == -1  # epoch 3 is no rung


def test_the_baseline_runs_to_its_end() -> None:
    others = {step: [0.0, 0.0, 0.0] for step in range(10)}
    assert pruned_at([3.0] * 9, others) == 0
    assert pruned_at([3.0] * 9, others, **{OVERRIDES: {}}) == -1


@pytest.mark.parametrize("pruner", ["halving", "median", "none"])
def test_pruners_by_name(pruner: str) -> None:
    made = make_pruner(StudySpec(dataset="digits", pruner=pruner), lambda _: [])
    assert isinstance(made, optuna.pruners.BasePruner)


def draws(spec: StudySpec, count: int, restart_every: int) -> list[dict[str, float]]:
    """Parameters of `count` trials, with the sampler made anew every so often."""
    study = optuna.create_study(sampler=make_sampler(spec))
    for number in range(count):
        if number % restart_every == 0:
            study.sampler = make_sampler(spec)
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        study.tell(trial, (x - 0.3) ** 2 + (kind == "b"))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_restart_changes_no_draw(sampler: str) -> None:
    spec = StudySpec(dataset="digits", sampler=sampler, seed=7)
    whole = draws(spec, 20, restart_every=100)
    assert draws(spec, 20, restart_every=3) == whole
    other = StudySpec(dataset="digits", sampler=sampler, seed=8)
    assert draws(other, 20, restart_every=100) != whole
    assert len({draw["x"] for draw in whole}) == 20
