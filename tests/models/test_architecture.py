"""To JSON and back, and what is refused before anything is built."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from models import (
    Architecture,
    ArchitectureError,
    ConvNetConfig,
    MLPConfig,
    build,
    from_dict,
    plan,
    to_dict,
)


def test_json_round_trip(random_cases: Callable[[int, int], list[Any]]) -> None:
    for architecture, _, _ in random_cases(200, 3):
        assert from_dict(json.loads(json.dumps(to_dict(architecture)))) == architecture


def test_every_field_is_written_and_defaults_may_be_left_out() -> None:
    assert to_dict(MLPConfig(hidden=(64, 32))) == {
        "family": "mlp",
        "hidden": [64, 32],
        "activation": "relu",
        "dropout": 0.0,
        "batch_norm": False,
    }
    assert from_dict({"family": "cnn", "channels": [8]}) == ConvNetConfig(channels=(8,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "must be a table of keys"),
        ({}, "'family' is missing; give one of cnn, mlp, resnet18"),
        ({"family": "rnn"}, "family must be one of cnn, mlp, resnet18, but got 'rnn'"),
        ({"family": ["cnn"]}, "family must be one of cnn, mlp"),
        ({"family": "cnn"}, "'channels' is missing for family 'cnn'"),
        ({"family": "mlp"}, "'hidden' is missing for family 'mlp'"),
        ({"family": "cnn", "channels": [8], "chanels": [8]}, "unknown key 'chanels'.*channels"),
        ({"family": "mlp", "hidden": [8], "residual": True}, "unknown key 'residual'.*'mlp'"),
        ({"family": "cnn", "channels": "8"}, "channels must be a list .* but got '8'"),
        ({"family": "cnn", "channels": [[8]]}, r"channels must be a list .* got \[\[8\]\]"),
        ({"family": "cnn", "channels": [8], "head": None}, "head must be one of .* got None"),
        ({"family": "cnn", "channels": [8], "padding": {}}, "padding must be .* but got {}"),
    ],
)
def test_from_dict_names_the_key(values: Any, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message) as caught:
        from_dict(values)
    assert "\n" not in str(caught.value)


IMPOSSIBLE: list[tuple[Architecture, tuple[int, ...], int, str]] = [
    (
        ConvNetConfig(channels=(8,) * 4, padding=0, pool_after="every"),
        (1, 28, 28),
        10,
        r"convolution 4 \(3x3, padding 0\) does not fit its input of 1x1; use padding 'same'",
    ),
    (
        ConvNetConfig(channels=(8, 8), kernel_sizes=(7, 5), padding=0, pool_after=()),
        (1, 28, 10),
        10,
        r"convolution 2 \(5x5, padding 0\) does not fit its input of 22x4",
    ),
    (
        ConvNetConfig(channels=(8,) * 5, pool_after="every"),
        (1, 28, 28),
        10,
        "pooling after convolution 5 does not fit its input of 1x1; use pool_after 'auto'",
    ),
    (
        ConvNetConfig(channels=(8, 8), padding=0, residual=True),
        (1, 28, 28),
        10,
        r"convolution 2 \(3x3, padding 0\) turns 13x13 into 11x11, but a shortcut needs",
    ),
    (
        ConvNetConfig(channels=(8, 8), batch_norm=(2,), batch_norm_place="pool", pool_after=(1,)),
        (1, 28, 28),
        10,
        r"pooling of convolution 2, but pooling is only after \[1\]",
    ),
    (MLPConfig(hidden=(8,)), (28, 28), 10, r"channels, height and width.* got \[28, 28\]"),
    (MLPConfig(hidden=(8,)), (1, 0, 28), 10, r"each from 1 up, but got \[1, 0, 28\]"),
    (MLPConfig(hidden=(8,)), (1, 28, 28), 1, "at least 2 classes, but got 1"),
]


@pytest.mark.parametrize(("architecture", "image", "classes", "message"), IMPOSSIBLE)
def test_the_impossible_is_refused_before_anything_is_built(
    architecture: Architecture,
    image: Any,
    classes: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def built(_layers: object) -> None:
        raise AssertionError("got as far as building modules")

    monkeypatch.setattr("models.modules.network", built)
    for attempt in (plan, build):
        with pytest.raises(ArchitectureError, match=message) as caught:
            attempt(architecture, image, classes)
        assert "\n" not in str(caught.value)
