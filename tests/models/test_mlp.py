"""The fully connected family: its layers in order, and what it refuses."""

from typing import Any

import pytest

from models import ArchitectureError, MLPConfig, plan


def names(config: MLPConfig) -> list[str]:
    return [layer.name for layer in plan(config, (1, 28, 28), 10)]


def test_layers_of_report_c() -> None:
    """Two hidden layers with dropout."""
    assert names(MLPConfig(hidden=(64, 32), dropout=0.2)) == [
        *("flatten", "linear1", "relu1", "dropout1"),
        *("linear2", "relu2", "dropout2", "output"),
    ]
    layers = plan(MLPConfig(hidden=(64, 32)), (3, 32, 32), 20)
    assert [layer.output for layer in layers if layer.weights] == [(64,), (32,), (20,)]
    assert sum(layer.weights for layer in layers) == 3072 * 64 + 64 * 32 + 32 * 20


def test_batch_norm_stands_before_the_activation() -> None:
    config = MLPConfig(hidden=(64,), batch_norm=True, activation="elu")
    assert names(config) == ["flatten", "linear1", "norm1", "elu1", "output"]


def test_without_hidden_layers_it_is_softmax_regression() -> None:
    assert names(MLPConfig(hidden=())) == ["flatten", "output"]
    assert names(MLPConfig(hidden=(), dropout=0.5)) == ["flatten", "dropout1", "output"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": 64}, "hidden must be a list of whole numbers from 1 up, but got 64"),
        ({"hidden": (64, 0)}, r"hidden .* but got \[64, 0\]"),
        ({"activation": "swish"}, "activation must be one of relu"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1, but got 1"),
        ({"dropout": None}, "dropout must be a number, but got None"),
        ({"batch_norm": (1,)}, r"batch_norm must be true or false, but got \[1\]"),
    ],
)
def test_wrong_values_are_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        MLPConfig(**{"hidden": (8,), **fields})
