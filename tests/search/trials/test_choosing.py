import math

import optuna
import pytest

from search.trials.choosing import (
    HalvingPruner,
    is_hopeless,
    is_rung,
    make_pruner,
    make_sampler,
    worth_continuing,
)
from search.trials.config import StudySpec
from search.trials.history import Standing
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

    def standing_at(trial_id: int, epoch: int) -> Standing:
        best, rivals = min(curve[: epoch + 1]), others.get(epoch, [])
        better = sum(rival < best for rival in rivals)
        assert trial_id == trial._trial_id
        return Standing(loss=best, rivals=len(rivals), better=better)

    study = optuna.create_study(pruner=HalvingPruner(standing_at))
    study.enqueue_trial({}, user_attrs=attributes)
    trial = study.ask()
    for step, loss in enumerate(curve):
        trial.report(loss, step)
        hopeless = is_hopeless(study, trial._trial_id, step)
        assert trial.should_prune() is hopeless
        if hopeless:
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
    made = make_pruner(StudySpec(dataset="digits", pruner=pruner), lambda _trial, _epoch: None)
    assert isinstance(made, optuna.pruners.BasePruner)


@pytest.mark.parametrize("pruner", ["median", "none"])
def test_the_loop_asks_as_optuna_does(pruner: str) -> None:
    spec = StudySpec(dataset="digits", pruner=pruner)
    study = optuna.create_study(pruner=make_pruner(spec, lambda _trial, _epoch: None))
    answers = []
    for number in range(12):
        trial = study.ask()
        for step in range(3):
            trial.report(float(number % 5), step)
            answers.append(trial.should_prune())
            assert is_hopeless(study, trial._trial_id, step) is answers[-1]
        study.tell(trial, float(number % 5))
    assert any(answers) is (pruner == "median")


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
