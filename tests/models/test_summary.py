"""Layer tables against a report's figures, and against built modules."""

import json
import math

import torch

from models import ConvNetConfig, build, from_dict, to_dict
from models.summary import anatomy
from tests.models.random_networks import random_cases


def test_the_baseline_layer_by_layer_as_report_a_counts_by_hand() -> None:
    lenet = ConvNetConfig(channels=(32, 64), padding=0, hidden=(120, 84), pool_after="every")
    rows = {row.name: row for row in anatomy(lenet, (1, 28, 28), 10)}
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
    assert rows["conv2"].computed == "64*32*3*3 + 64"
    assert rows["conv2"].multiply_adds == 18_432 * 11 * 11


def test_tables_and_formulas_are_those_of_the_built_network() -> None:
    for architecture, image, classes in random_cases(40, 1):
        assert from_dict(json.loads(json.dumps(to_dict(architecture)))) == architecture
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
            assert eval(row.computed or "0") == row.parameters
        total = sum(row.parameters for row in rows.values())
        assert total == sum(p.numel() for p in model.parameters())
