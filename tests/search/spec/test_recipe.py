"""What a recipe refuses, and schedules at known points."""

import math
from dataclasses import replace

import pytest

from search.spec.domains import SpecError
from search.spec.recipe import Recipe
from search.spec.schedules import SCHEDULES

RECIPE = Recipe(epochs=2, learning_rate=0.05)


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
