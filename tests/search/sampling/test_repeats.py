"""No configuration is proposed twice while the space has others, whichever sampler proposes it."""

from typing import Any

import optuna
import pytest
from optuna.samplers import BruteForceSampler, QMCSampler, RandomSampler
from optuna.trial import TrialState

from search.sampling.limits import Limits
from search.sampling.registry import SAMPLERS, Sampler
from search.sampling.sampler import StudySampler
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.spec.space import OVERRIDES, queued_trial, suggest
from tests.search.sampling.test_sampler import search, spec_of

SPACE = {
    "depth": {"low": 1, "high": 4},
    "width": {"low": 8, "high": 24, "step": 8},
    "weight_decay_kind": ["none", "decoupled"],
}
COUNT = 24  # configurations

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(autouse=True)
def _own_samplers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samplers of Optuna that keep their state in the study."""
    own = {
        "qmc": lambda spec, _: QMCSampler(seed=spec.seed, warn_independent_sampling=False),
        "brute-force": lambda _, seed: BruteForceSampler(seed=seed),
    }
    for name, make in own.items():
        entry = Sampler(description="a test's", make=make, on_estimates=False)
        monkeypatch.setitem(SAMPLERS, name, entry)


def small(sampler: str, seed: int = 0, **fields: Any) -> StudySpec:
    space = {name: read_parameter(name, written) for name, written in SPACE.items()}
    return StudySpec(dataset="digits", space=space, sampler=sampler, epochs=2, seed=seed, **fields)


def train(study: optuna.Study, spec: StudySpec, trials: int) -> list[dict[str, Any]]:
    """The parameters of so many more trials; some fail, and some run on."""
    for _ in range(trials):
        trial = study.ask()
        suggest(trial, spec)
        if trial.number % 5 == 4:
            study.tell(trial, state=TrialState.FAIL)
        elif trial.number % 5 != 3:
            trial.report(trial.params["width"] / 100, 2)
            study.tell(trial, trial.params["width"] / 100)
    return [trial.params for trial in study.trials[-trials:]]


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "brute-force"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_small_space_is_used_up_before_anything_repeats(sampler: str, seed: int) -> None:
    spec = small(sampler, seed)
    study = optuna.create_study(sampler=StudySampler(spec, None))
    found = train(study, spec, COUNT)
    assert len({str(params) for params in found}) == COUNT
    assert all(params in found for params in train(study, spec, 2))


def test_a_range_of_one_real_number_is_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPACE, "dropout", {"low": 0.1, "high": 0.1})
    for seed in range(4):  # by luck, 24 random draws do not repeat either
        spec = small("random", seed)
        found = train(optuna.create_study(sampler=StudySampler(spec, None)), spec, COUNT)
        assert {params["dropout"] for params in found} == {0.1}
        assert len({str(params) for params in found}) == COUNT


def test_what_is_left_within_the_limits_is_used_up() -> None:
    spec = small("random", max_parameters=40_000)
    limits = Limits(spec, (1, 8, 8), 10)
    study = optuna.create_study(sampler=StudySampler(spec, None, limits))
    found = train(study, spec, COUNT)
    fitting = {str(params) for params in found}
    everything = train(
        optuna.create_study(sampler=StudySampler(small("random"), None)), spec, COUNT
    )
    assert fitting == {str(params) for params in everything if limits.fit(params)}
    assert 2 < len(fitting) < COUNT


def test_what_a_queued_trial_holds_is_part_of_its_configuration() -> None:
    spec = small("random")
    study = optuna.create_study(sampler=StudySampler(spec, None))
    found = []
    for _ in range(COUNT // 4 + 1):
        study.add_trial(queued_trial(spec, {"depth": 3}, {}))
        found += train(study, spec, 1)
    study.add_trial(queued_trial(spec, {"width": 8}, {OVERRIDES: {"depth": 9}}))
    (outside,) = train(study, spec, 1)
    assert {params["depth"] for params in found} == {3}
    assert len({str(params) for params in found}) == COUNT // 4
    assert outside.keys() == SPACE.keys() - {"depth"}


def test_a_held_value_may_lie_outside_a_logarithmic_range() -> None:
    """A weight decay of 0 has no logarithm; the second trial first proposes the first one again."""
    decay = {"low": 1e-5, "high": 1e-2, "log": True}
    written = {"depth": [2, 3], "weight_decay": decay}
    space = {name: read_parameter(name, it) for name, it in written.items()}
    for seed in range(6):
        spec = StudySpec(dataset="digits", space=space, sampler="random", epochs=2, seed=seed)
        study = optuna.create_study(sampler=StudySampler(spec, None))
        none = {OVERRIDES: {"weight_decay": 0.0}}
        for held in ({"depth": 3}, {}):
            study.add_trial(queued_trial(spec, held, none))
        for depth in (3, 2):
            trial = study.ask()
            assert suggest(trial, spec).recipe.weight_decay == 0
            assert trial.params["depth"] == depth


def test_a_repeated_proposal_is_replaced_by_one_near_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best place may be a corner, which a Gaussian process proposes again and again."""
    corner = {"learning_rate": 0.02999999999999999, "depth": 4}

    class Corner(RandomSampler):
        def sample_relative(self, *_: Any) -> dict[str, Any]:
            return corner

        def infer_relative_search_space(self, *_: Any) -> Any:
            return {"depth": None}

    entry = Sampler(description="a test's", make=lambda *_: Corner(), on_estimates=False)
    monkeypatch.setitem(SAMPLERS, "corner", entry)
    written: dict[str, Any] = {
        "learning_rate": {"low": 1e-4, "high": 3e-2, "log": True},
        "depth": {"low": 1, "high": 4},
    }
    space = {name: read_parameter(name, it) for name, it in written.items()}
    spec = StudySpec(dataset="digits", space=space, sampler="corner", epochs=2)
    study = optuna.create_study(sampler=StudySampler(spec, None))
    study.add_trial(queued_trial(spec, {"learning_rate": 0.03, "depth": 4}, {}))
    rates = []
    for _ in range(8):
        trial = study.ask()
        suggest(trial, spec)
        assert trial.params["depth"] == 4
        rates.append(trial.params["learning_rate"])
        study.tell(trial, 1.0)
    assert rates[0] == 0.03
    assert len({*rates}) == 8
    assert 0.015 < min(rates) < sorted(rates)[-2] < 0.03


def test_a_custom_sampler_that_keeps_its_state_in_the_study() -> None:
    study = search(spec_of("qmc"), 9)
    assert len({trial.params["dropout"] for trial in study.trials}) > 6
