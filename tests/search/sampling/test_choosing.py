import optuna
import pytest

from search.sampling.choosing import is_hopeless, make_pruner, make_sampler
from search.spec.config import StudySpec


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


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random"])
def test_a_restart_changes_no_draw(sampler: str) -> None:
    spec = StudySpec(dataset="digits", sampler=sampler, seed=7)
    whole = draws(spec, 20, restart_every=100)
    assert draws(spec, 20, restart_every=3) == whole
    other = StudySpec(dataset="digits", sampler=sampler, seed=8)
    assert draws(other, 20, restart_every=100) != whole
    assert len({draw["x"] for draw in whole}) == 20
