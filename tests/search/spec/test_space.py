import math
from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial

from search.spec.config import StudySpec
from search.spec.domains import SpecError
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


@pytest.mark.parametrize(
    ("parameters", "drawn", "field", "value"),
    [
        ({"hidden": [120, 84]}, {}, "hidden", (120, 84)),  # one value for what is a list
        ({"hidden": [[128], [64, 32]]}, {"hidden": "64 32"}, "hidden", (64, 32)),
        ({"hidden": [[], [64]]}, {"hidden": "-"}, "hidden", ()),
        ({"depth": 4, "width": 24}, {}, "channels", (24, 48, 96, 96)),
    ],
)
def test_lists_and_channels(
    parameters: dict[str, Any], drawn: dict[str, Any], field: str, value: object
) -> None:
    network = suggest(FixedTrial(drawn), space(**parameters)).architecture
    assert network.values()[field] == value


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        ("depht", 3, "unknown parameter 'depht'"),
        ("depth", 2.5, "whole number"),
        ("learning_rate", math.nan, "nan"),
        ("weight_decay_kind", ["none", "l3"], "'l3'"),
        ("batch_norm", "yes", "true or false"),
        ("activation", {"low": 1, "high": 2}, "no range"),
        ("learning_rate", {"low": 0.1, "high": 0.01}, "low <= high"),
        ("learning_rate", {"low": 0.0, "high": 0.1, "log": True}, "above 0"),
        ("width", {"low": 8, "high": 20, "step": 8}, "a whole step"),
        ("depth", [], "no choice"),
        ("depth", [2, 2], "twice"),
        ("width", list(range(1, 100_000)), "at most 1000 choices, but got 99999; give a range"),
    ],
)
def test_a_parameter_refuses(name: str, written: object, says: str) -> None:
    with pytest.raises(SpecError, match=name) as caught:
        read_parameter(name, written)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "written", "more"),
    [
        ("depth", {"low": 0, "high": 3}, {}),
        ("kernel_sizes", [[3], [4]], {}),
        ("channels", [8, 8, 8, 8, 8], {"padding": 0, "pool_after": "every"}),  # images too small
    ],
)
def test_values_that_make_no_network_are_found_before_any_trial(
    name: str, written: object, more: dict[str, Any]
) -> None:
    with pytest.raises(SpecError, match=name) as caught:
        check_space(space(**{name: written}, **more), *FASHION)
    assert caught.value.key == name


def test_the_default_space_fits_every_data_set(spec: StudySpec) -> None:
    for shape, classes in (FASHION, ((1, 8, 8), 10), ((3, 32, 32), 100)):
        check_space(spec, shape, classes)
