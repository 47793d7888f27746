"""What a parameter and a recipe refuse, configurations of a space, schedules at known points."""

import math
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial

from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.parameters import read_parameter, read_tables
from search.spec.recipe import Recipe
from search.spec.schedules import SCHEDULES
from search.spec.space import check_space, suggest
from search.spec.study_file import find_study_file
from tests.search.spec.reading import read

FASHION = ((1, 28, 28), 10)
DEFAULT = read(find_study_file("default"))
RECIPE = Recipe(epochs=2, learning_rate=0.05)


def space(**parameters: object) -> StudySpec:
    return StudySpec(dataset="digits", **read_tables({"space": parameters}))


def test_live_stored_and_fixed_trials_give_the_same_configuration() -> None:
    study = optuna.create_study()
    for _ in range(5):
        trial = study.ask()
        live = suggest(trial, DEFAULT)
        study.tell(trial, 1.0)
        stored = study.trials[-1]
        assert suggest(stored, DEFAULT) == live
        assert suggest(FixedTrial(stored.params), DEFAULT) == live


@pytest.mark.parametrize(
    ("parameters", "drawn", "field", "value"),
    [
        ({"hidden": [120, 84]}, {}, "hidden", (120, 84)),  # a single value that is a list
        ({"hidden": [[128], [64, 32]]}, {"hidden": "64 32"}, "hidden", (64, 32)),
        ({"hidden": [[], [64]]}, {"hidden": "-"}, "hidden", ()),
        ({"depth": 4, "width": 24}, {}, "channels", (24, 48, 96, 96)),
    ],
)
def test_lists_and_channels(
    parameters: dict[str, Any], drawn: dict[str, Any], field: str, value: object
) -> None:
    network = suggest(FixedTrial(drawn), space(**parameters)).architecture
    assert getattr(network, field) == value


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        ("depht", 3, "unknown parameter 'depht'"),
        ("depth", 2.5, "whole number"),
        ("learning_rate", math.nan, "nan"),
        ("weight_decay_kind", ["none", "l3"], "'l3'"),
        ("batch_norm", "yes", "true or false"),
        ("activation", {"low": 1, "high": 2}, "cannot be a range"),
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
    ("field", "value"),
    [
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("weight_decay", math.nan),
        ("optimizer", "lion"),
        ("gradient_clip", 0.0),
        ("frozen_epochs", 1),  # random layers would stay random
    ],
)
def test_a_recipe_refuses(field: str, value: object) -> None:
    with pytest.raises(SpecError, match=field):
        replace(RECIPE, **{field: value})


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


def test_the_default_space_fits_every_data_set() -> None:
    for shape, classes in (FASHION, ((1, 8, 8), 10), ((3, 32, 32), 100)):
        check_space(DEFAULT, shape, classes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", {0.7: 1}),
        ("step", {0: 1, 0.49: 1, 0.5: 0.1, 0.75: 0.01}),
        ("cosine", {0: 1, 0.5: 0.5, 1: 0}),
        ("one-cycle", {0: 0.05, 0.2: 1, 0.6: 0.5, 1: 0}),
    ],
)
def test_schedules_at_known_points(name: str, expected: dict[float, float]) -> None:
    found = {progress: SCHEDULES[name].factor(progress) for progress in expected}
    assert found == pytest.approx(expected)
