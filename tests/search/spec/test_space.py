import math

import optuna
import pytest
from optuna.trial import FixedTrial

from models import ConvNetConfig
from search.spec.config import StudySpec
from search.spec.domains import SpecError, domain_from_json, plain
from search.spec.parameters import read_parameter
from search.spec.space import check_space, suggest
from search.spec.study_file import READY_MADE, read_study_file

FASHION = ((1, 28, 28), 10)


@pytest.fixture
def spec() -> StudySpec:
    return StudySpec(**read_study_file(READY_MADE / "default.toml"), dataset="fashion_mnist")


def space(**parameters: object) -> StudySpec:
    read = {name: read_parameter(name, written) for name, written in parameters.items()}
    return StudySpec(dataset="digits", space=read)


def test_live_stored_and_fixed_trials_give_the_same_configuration(spec: StudySpec) -> None:
    study = optuna.create_study()
    for _ in range(5):
        trial = study.ask()
        live = suggest(trial, spec)
        study.tell(trial, 1.0)
        stored = study.trials[-1]
        assert suggest(stored, spec) == live
        assert suggest(FixedTrial(stored.params), spec) == live


def test_every_searched_parameter_is_always_asked_for(spec: StudySpec) -> None:
    """The sampler models parameters together only where every trial has them."""
    study = optuna.create_study()
    asked = []
    for _ in range(8):
        trial = study.ask()
        suggest(trial, spec)
        study.tell(trial, 1.0)
        asked.append(set(study.trials[-1].params))
    assert asked == [asked[0]] * 8
    assert {"depth", "width", "learning_rate", "weight_decay_kind", "weight_decay"} <= asked[0]
    assert {"dropout", "augmentation", "augmentation_strength"} <= asked[0]


@pytest.mark.parametrize(
    "written",
    ["same", True, ["a", "b"], [[3], [5, 3]], {"low": 1, "high": 4, "log": True},
     {"low": 8, "high": 24, "step": 8}],
)  # fmt: skip
def test_domains_are_written_as_they_are_read(written: object) -> None:
    domain = domain_from_json(written, "x")
    assert domain_from_json(plain(domain), "x") == domain


def test_lists_are_one_value_for_parameters_that_are_lists() -> None:
    one = suggest(FixedTrial({}), space(hidden=[120, 84])).architecture
    assert isinstance(one, ConvNetConfig)
    assert one.hidden == (120, 84)
    chosen = suggest(FixedTrial({"hidden": "64 32"}), space(hidden=[[128], [64, 32]]))
    assert isinstance(chosen.architecture, ConvNetConfig)
    assert chosen.architecture.hidden == (64, 32)
    none = suggest(FixedTrial({"hidden": "-"}), space(hidden=[[], [64]])).architecture
    assert isinstance(none, ConvNetConfig)
    assert none.hidden == ()


def test_depth_and_width_give_the_channels() -> None:
    config = suggest(FixedTrial({}), space(depth=4, width=24)).architecture
    assert isinstance(config, ConvNetConfig)
    assert config.channels == (24, 48, 96, 96)


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        ("depht", 3, "unknown parameter 'depht'"),
        ("depth", 2.5, "whole number"),
        ("depth", True, "whole number"),
        ("learning_rate", "fast", "number"),
        ("learning_rate", math.nan, "nan"),
        ("weight_decay_kind", ["none", "l3"], "'l3'"),
        ("batch_norm", "yes", "true or false"),
        ("activation", {"low": 1, "high": 2}, "no range"),
        ("learning_rate", {"low": 0.1, "high": 0.01}, "low <= high"),
        ("learning_rate", {"low": 0.0, "high": 0.1, "log": True}, "above 0"),
        ("learning_rate", {"low": 0.1}, "low = ..., high = ..."),
        ("learning_rate", {"low": 1e-3, "high": 1e-2, "log": 1}, "log = true"),
        ("width", {"low": 8, "high": 20, "step": 8}, "a whole step"),
        ("width", {"low": 8, "high": 24, "step": 8, "log": True}, "a whole step"),
        ("depth", [], "no choice"),
        ("depth", [2, 2], "twice"),
        ("hidden", [[1.5]], "1.5"),
    ],
)
def test_a_parameter_refuses(name: str, written: object, says: str) -> None:
    with pytest.raises(SpecError, match=name) as caught:
        read_parameter(name, written)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("depth", {"low": 0, "high": 3}),
        ("dropout", {"low": 0.0, "high": 1.5}),
        ("batch_size", [0, 32]),
        ("kernel_sizes", [[3], [4]]),
    ],
)
def test_values_out_of_range_are_found_before_any_trial(name: str, written: object) -> None:
    with pytest.raises(SpecError, match=name) as caught:
        check_space(space(**{name: written}), *FASHION)
    assert caught.value.key == name


def test_a_network_too_large_for_the_images_is_found_before_any_trial() -> None:
    deep = space(channels=[8, 8, 8, 8, 8], padding=0, pool_after="every")
    with pytest.raises(SpecError, match="channels"):
        check_space(deep, *FASHION)


def test_the_default_space_fits_every_data_set(spec: StudySpec) -> None:
    for shape, classes in (FASHION, ((1, 8, 8), 10), ((3, 32, 32), 100)):
        check_space(spec, shape, classes)
