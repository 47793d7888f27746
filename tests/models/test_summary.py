"""Layer tables against the reports' figures, and against built modules."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from models import ConvNetConfig, build
from models.summary import anatomy, count_parameters

GREY, COLOUR = (1, 28, 28), (3, 32, 32)


def small(*channels: int, **fields: Any) -> ConvNetConfig:
    """Report A: 3x3 without padding, pooling after each, linear 120 and 84."""
    fields = {"padding": 0, "pool_after": "every", "hidden": (120, 84), **fields}
    return ConvNetConfig(channels=channels, **fields)


# Those of the ready-made studies' networks are in tests/search/spec/test_ready_made_studies.py.
REPORTED = {
    "A1 row 4": (small(16, 32, 64), GREY, 42_110),
    "A1 row 5": (small(32, 64, 64, kernel_sizes=(5, 3, 3)), GREY, 75_070),
    # 1 280 + 15 * 147 584 for the convolutions, 3*3*128 values left for linear 128 and 10.
    "B 16 layers, batch norm": (
        ConvNetConfig(channels=(128,) * 16, hidden=(128,), pool_after=(1, 7, 13), batch_norm=True),
        GREY,
        1_183_242 + 8 * 147_584 + 16 * 256,
    ),
    # 2 432 + 51 264 + 102 464 + 2 * 128 of batch norm + (64*8*8 * 128 + 128) + 1 290.
    "E improved": (
        ConvNetConfig(
            channels=(32, 64, 64),
            kernel_sizes=(5,),
            pool_after=(2, 3),
            batch_norm=True,
            batch_norm_place="pool",
            hidden=(128,),
        ),
        COLOUR,
        682_122,
    ),
}


@pytest.mark.parametrize("name", REPORTED)
def test_reported_parameters(name: str) -> None:
    architecture, image, parameters = REPORTED[name]
    assert count_parameters(architecture, image, 10) == parameters


def test_the_baseline_layer_by_layer_as_report_a_counts_by_hand() -> None:
    rows = {row.name: row for row in anatomy(small(32, 64), GREY, 10)}
    sizes = [rows[name].output for name in ("conv1", "pool1", "conv2", "pool2", "flatten")]
    assert sizes == [(32, 26, 26), (32, 13, 13), (64, 11, 11), (64, 5, 5), (1600,)]
    counted = {name: row.parameters for name, row in rows.items() if row.parameters}
    assert counted == {
        "conv1": 320,
        "conv2": 18_496,
        "linear1": 192_120,
        "linear2": 10_164,
        "output": 850,
    }
    assert (rows["conv2"].weights, rows["conv2"].biases) == (18_432, 64)
    assert rows["conv2"].computed == "64*32*3*3 + 64"
    assert rows["conv1"].size == "(28 - 3 + 2*0)/1 + 1 = 26"
    assert rows["pool2"].size == "floor((11 - 2)/2) + 1 = 5"
    assert rows["conv2"].multiply_adds == 18_432 * 11 * 11
    assert rows["linear1"].share == pytest.approx(0.8656, abs=1e-4)


def test_multiply_adds_and_parameters_are_those_of_the_built_network(
    random_cases: Callable[[int, int], list[Any]],
) -> None:
    for architecture, image, classes in random_cases(60, 1):
        rows = {row.name: row for row in anatomy(architecture, image, classes)}
        model = build(architecture, image, classes).eval()
        modules = {path.rpartition(".")[2]: module for path, module in model.named_modules()}
        for name, row in rows.items():
            module, expected = modules[name], 0
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                # Each output value is a sum over one filter, or row, of the weights.
                expected = module.weight[0].numel() * math.prod(row.output)
            assert row.multiply_adds == expected
            assert row.parameters == sum(p.numel() for p in module.parameters(recurse=False))
        assert sum(row.share for row in rows.values()) == pytest.approx(1)
        total = sum(row.parameters for row in rows.values())
        assert total == sum(p.numel() for p in model.parameters())


def test_formulas_give_what_they_stand_beside(
    random_cases: Callable[[int, int], list[Any]],
) -> None:
    for architecture, image, classes in random_cases(100, 2):
        for row in anatomy(architecture, image, classes):
            if row.computed:
                assert eval(row.computed) == row.parameters == row.weights + row.biases
            for formula in filter(None, row.size.split(", ")):
                left, right = formula.split(" = ")
                assert eval(left, {"floor": math.floor}) == int(right)
                assert int(right) in row.output
