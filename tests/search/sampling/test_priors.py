"""What the records of other data sets know of a study's parameters."""

from collections.abc import Iterator
from typing import Any

import optuna
import pytest
from torch import nn

from models import FAMILIES, family_from_function
from search.sampling.priors import (
    FEATURES,
    PARAMETERS,
    as_recorded,
    features,
    prior_for,
    promise,
    recorded_parameters,
)
from search.sampling.sampler import StudySampler
from search.spec.config import StudySpec
from search.spec.parameters import read_tables
from search.spec.space import suggest
from search.spec.study_file import find_study_file, read_study_file


@pytest.fixture(autouse=True)
def _families() -> Iterator[None]:
    """The user's own networks, with arguments named as the built-in family's."""
    networks = {"layered": _layered, "named": _named}
    before = dict(FAMILIES)
    FAMILIES.update({name: family_from_function(name, it) for name, it in networks.items()})  # type: ignore[attr-defined]
    yield
    FAMILIES.clear()  # type: ignore[attr-defined]
    FAMILIES.update(before)  # type: ignore[attr-defined]


def _layered(
    _shape: Any, classes: int, *, depth: int = 2, width: int = 0, dropout: float = 0.0
) -> nn.Module:
    layers = [nn.LazyLinear(width + classes) for _ in range(depth)]
    return nn.Sequential(nn.Flatten(), *layers, nn.Dropout(dropout), nn.LazyLinear(classes))


def _named(
    _shape: Any,
    classes: int,
    *,
    depth: str = "small",
    width: tuple[int, ...] = (),
    residual: str = "none",
    dropout: str = "0",
) -> nn.Module:
    units = (*width, 8 if depth == "small" else 16, len(residual + dropout))
    return nn.Sequential(nn.Flatten(), *map(nn.LazyLinear, units), nn.LazyLinear(classes))


def spec_of(**space: Any) -> StudySpec:
    return StudySpec(dataset="digits", epochs=2, **read_tables({"space": space}))


RATE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
OWN = {
    "layered": {"depth": {"low": 1, "high": 3}, "width": {"low": 0, "high": 4}},
    "named": {
        "depth": ["small", "large"],
        "width": [[16, 32], [32, 64]],
        "residual": ["none", "pre"],
        "dropout": ["0", "much"],
    },
}


@pytest.mark.parametrize("family", OWN)
def test_parameters_of_the_users_own_network_are_not_those_of_ours(family: str) -> None:
    """Neither their values nor their effects: the first proposals, the forecasts and the model."""
    spec = spec_of(family=family, **OWN[family], **RATE)
    usual = recorded_parameters(spec)
    assert usual.keys() & OWN[family].keys() == set()
    assert "learning_rate" in usual
    prior = prior_for("digits")
    study = optuna.create_study(sampler=StudySampler(spec, prior))
    for number in range(12):
        trial = study.ask()
        suggest(trial, spec)
        trial.report(1 / (number + 1), 0)
        study.tell(trial, 1.0)
    one = {"learning_rate": 1e-3}
    for params in (trial.params for trial in study.trials):
        same = as_recorded({**params, **one}, usual)
        assert promise(same, prior) == promise(as_recorded(one, usual), prior)


def test_fixed_values_are_known_too() -> None:
    fields = read_study_file(find_study_file("fast"))
    usual = recorded_parameters(StudySpec(**{**fields, "dataset": "digits"}))
    assert usual.keys() == PARAMETERS
    fixed = {"augmentation": "flip-crop", "weight_decay_kind": "decoupled", "weight_decay": 1e-2}
    assert fixed.items() <= usual.items()
    assert usual["residual"] is False  # by default
    weak, strong = (
        dict(
            zip(FEATURES, features(as_recorded({"augmentation_strength": it}, usual)), strict=True)
        )
        for it in (0.1, 0.6)
    )
    assert strong["flip-crop"] - weak["flip-crop"] == pytest.approx(0.5)
    assert strong["augmentation"] - weak["augmentation"] == pytest.approx(0.5)
    assert recorded_parameters(spec_of(**RATE)).keys() == PARAMETERS


def test_features_are_zero_of_what_is_unknown() -> None:
    assert features({"kernel": 3, "my_own": "x"}) == [0.0] * len(FEATURES)
    searched = {"weight_decay_kind": "coupled", "weight_decay": 3e-3, "augmentation": "flip-crop"}
    found = dict(zip(FEATURES, features({**searched, "learning_rate": 0.0316}), strict=True))
    assert found["coupled"] == found["flip-crop"] == 1 > found["decoupled"] == 0
    assert found["coupled_decay"] == pytest.approx(0.977, abs=1e-3)
    assert found["learning_rate"] == pytest.approx(1, abs=1e-3)
    doubled = {**searched, "weight_decay_kind": "l2", "weight_decay": 1.5e-3}
    assert features(doubled) == pytest.approx(features(searched))
    none = features({**searched, "weight_decay": 0.0})
    assert none == features({**searched, "weight_decay_kind": "none"})
