"""The convolutional family: its parameters, its layers in order, its table and its forward pass.

The last two are checked on random networks, in which every field takes every kind of value: the
table against the built modules, the forward pass against a naive implementation.
"""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models import (
    Architecture,
    ArchitectureError,
    ConvNetConfig,
    MLPConfig,
    build,
    from_dict,
    to_dict,
)
from models.convnet import PARAMETERS
from models.summary import anatomy


def random_cases(
    count: int, seed: int
) -> Iterator[tuple[ConvNetConfig, tuple[int, int, int], int]]:
    """`count` architectures, each with an image shape that it fits and a number of classes."""

    def cases(rng: random.Random) -> Iterator[Any]:
        while True:
            side = rng.choice([1, 5, 8, 14, 28, 32])
            image = (rng.choice([1, 3]), side, rng.choice([side, side + 3]))
            classes = rng.choice([2, 10, 100])
            try:
                architecture = random_network(rng)
                anatomy(architecture, image, classes)
            except ArchitectureError:
                continue
            yield architecture, image, classes

    return islice(cases(random.Random(seed)), count)


def random_network(rng: random.Random) -> ConvNetConfig:
    depth = rng.randint(1, 9)

    def some() -> tuple[int, ...]:
        return tuple(number for number in range(1, depth + 1) if rng.random() < 0.4)

    padding: Any = rng.choice(["same", "same", 0, 2, tuple(rng.choices([0, 1, 2], k=depth))])
    chosen: dict[str, Any] = {
        name: rng.choice(list(PARAMETERS[name].options))
        for name in ("batch_norm_place", "activation", "pool", "head")
    }
    return ConvNetConfig(
        channels=tuple(rng.choices([2, 3, 8], k=depth)),  # neighbours are often alike
        kernel_sizes=tuple(rng.choices([1, 3, 5], k=rng.choice([1, depth]))),
        padding=padding,
        batch_norm=rng.choice([True, False, some()]),
        pool_after=rng.choice(["auto", "every", some()]),
        residual=rng.random() < 0.5,
        hidden=tuple(rng.choices([2, 3, 8], k=rng.randint(0, 2))),
        dropout_conv=rng.choice([0.0, 0.3]),
        dropout_linear=rng.choice([0.0, 0.3]),
        **chosen,
    )


def naive_logits(config: ConvNetConfig, weights: Iterator[Tensor], x: Tensor) -> Tensor:
    """The textbook order, in training mode, from the configuration alone (dropout left out).

    `weights` are in the module's own order: main path, then shortcut.
    """
    activation = getattr(F, config.activation)
    pool = F.max_pool2d if config.pool == "max" else F.avg_pool2d
    depth, place = len(config.channels), config.batch_norm_place
    every = range(1, depth + 1)
    assert config.pool_after != "auto"
    pooled = every if config.pool_after == "every" else config.pool_after
    normed = every if place == "conv" else pooled
    if not isinstance(config.batch_norm, bool):
        normed = config.batch_norm
    elif not config.batch_norm:
        normed = ()

    def norm(x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, next(weights), next(weights), training=True)

    waiting = x  # what the shortcut carries
    for number in every:
        first_of_block = config.residual and number % 2 == 0
        last_of_block = config.residual and (number % 2 == 1 or number == depth) and number > 1
        if first_of_block:
            waiting = x
        x = F.conv2d(x, next(weights), next(weights), padding=config.convolutions[number - 1][2])
        if number in normed and place == "conv":
            x = norm(x)
        if last_of_block:
            if waiting.shape[1] != x.shape[1]:
                waiting = F.conv2d(waiting, next(weights))
                if number in normed and place == "conv":
                    waiting = norm(waiting)
            x = x + waiting
        x = activation(x)
        if number in pooled:
            x = pool(x, 2)
            if not last_of_block:
                waiting = pool(waiting, 2) if first_of_block else waiting
        if number in normed and place == "pool":
            x = norm(x)
    x = x.mean((2, 3)) if config.head == "global" else x.flatten(1)
    for _ in config.hidden:
        x = activation(F.linear(x, next(weights), next(weights)))
    return F.linear(x, next(weights), next(weights))


def agrees_with_naive(config: ConvNetConfig, image: tuple[int, int, int]) -> None:
    """Logits and all gradients, in float64, so that ties and rounding do not interfere."""
    torch.manual_seed(0)
    model = build(config, image, 10).double()
    images = torch.randn(4, *image, dtype=torch.float64)
    target = torch.randn(4, 10, dtype=torch.float64)
    built = model(images.to(memory_format=torch.channels_last))
    parameters = list(model.parameters())
    naive = naive_logits(config, weights := iter(parameters), images)
    assert next(weights, None) is None
    torch.testing.assert_close(built, naive)
    torch.testing.assert_close(
        torch.autograd.grad((built * target).sum(), parameters),
        torch.autograd.grad((naive * target).sum(), parameters),
    )


def test_random_networks_equal_the_naive_order() -> None:
    cases = [it for it in random_cases(24, 4) if it[0].pool_after != "auto"]
    assert len(cases) > 10
    for architecture, image, _ in cases:
        agrees_with_naive(replace(architecture, dropout_conv=0.0, dropout_linear=0.0), image)


def test_the_baseline_layer_by_layer_as_report_a_counts_by_hand() -> None:
    lenet = ConvNetConfig(channels=(32, 64), padding=0, hidden=(120, 84), pool_after="every")
    rows = {row.name: row for row in anatomy(lenet, (1, 28, 28), 10)}
    sizes = [rows[name].output for name in ("conv1", "pool1", "conv2", "pool2", "flatten")]
    assert sizes == [(32, 26, 26), (32, 13, 13), (64, 11, 11), (64, 5, 5), (1600,)]
    counted = {"conv1": 320, "conv2": 18_496, "linear1": 192_120, "linear2": 10_164, "output": 850}
    assert {name: row.parameters for name, row in rows.items() if row.parameters} == counted
    assert rows["conv2"].computed == "64*32*3*3 + 64"
    assert rows["conv2"].multiply_adds == 18_432 * 11 * 11


def test_tables_and_formulas_match_the_built_network() -> None:
    for architecture, image, classes in random_cases(30, 1):
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


@pytest.mark.parametrize(
    ("config", "tail"),
    [
        (
            ConvNetConfig(channels=(4,), dropout_conv=0.5, hidden=(8, 8), dropout_linear=0.2),
            "relu1 dropout_conv flatten linear1 relu2 dropout1 linear2 relu3 dropout2 output",
        ),
        (
            ConvNetConfig(channels=(4,), head="global", dropout_linear=0.5),
            "global_pool flatten dropout1 output",
        ),
        (
            MLPConfig(hidden=(64,), batch_norm=True, activation="elu"),
            "flatten linear1 norm1 elu1 output",
        ),
        (MLPConfig(hidden=(), dropout=0.5), "flatten dropout1 output"),
    ],
)
def test_where_dropout_and_batch_norm_are(config: Architecture, tail: str) -> None:
    wanted = tail.split()
    assert [row.name for row in anatomy(config, (1, 8, 8), 10)][-len(wanted) :] == wanted


def test_automatic_pooling_is_spread_evenly() -> None:
    rows = anatomy(ConvNetConfig(channels=(4,) * 8), (1, 28, 28), 10)
    pools = [row.name for row in rows if row.kind == "MaxPool2d"]
    assert pools == ["pool1", "pool4", "pool7"]  # report B's own choice


@given(
    height=st.integers(1, 32),
    width=st.integers(1, 32),
    depth=st.integers(1, 8),
    kernel=st.sampled_from([1, 3, 5]),
    residual=st.booleans(),
)
def test_automatic_pooling_fits_any_image(
    height: int, width: int, depth: int, kernel: int, residual: bool
) -> None:
    padded = ConvNetConfig(channels=(2,) * depth, kernel_sizes=(kernel,), residual=residual)
    anatomy(padded, (3, height, width), 10)
    bare = replace(padded, padding=0, residual=False)
    if min(height, width) - depth * (kernel - 1) >= 1:
        assert all(min(row.output) >= 1 for row in anatomy(bare, (3, height, width), 10))
    else:
        with pytest.raises(ArchitectureError, match="does not fit its input"):
            anatomy(bare, (3, height, width), 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": ()}, "channels must have an entry for at least one convolution"),
        ({"channels": (8, 8, 8), "kernel_sizes": (3, 3)}, "1 or 3 entries for 3 convolutions"),
        ({"kernel_sizes": (3, 4)}, "odd kernels, but got 4 for convolution 2"),
        ({"padding": (1, 1, 1)}, "padding must have 2 entries for 2 convolutions, but has 3"),
        ({"batch_norm": (3,)}, r"batch_norm must name convolutions from 1 to 2, .* got \[3\]"),
        ({"pool_after": (2, 1)}, r"pool_after .* in rising order, but got \[2, 1\]"),
        (
            {"channels": (8,) * 4, "padding": 0, "pool_after": "every"},
            r"convolution 4 \(3x3, padding 0\) does not fit its input of 1x1; use padding 'same'",
        ),
        (
            {"channels": (8,) * 5, "pool_after": "every"},
            "pooling after convolution 5 does not fit its input of 1x1; .* pool_after 'auto'",
        ),
        (
            {"channels": (8, 8), "padding": 0, "residual": True},
            r"convolution 2 \(3x3, padding 0\) turns 13x13 into 11x11, but a shortcut needs",
        ),
        (
            {"batch_norm": (2,), "batch_norm_place": "pool", "pool_after": (1,)},
            r"pooling of convolution 2, but pooling is only after \[1\]",
        ),
        ({"hidden": (10**9,)}, "linear1 would give 1000000000"),
        ({"hidden": (10**6,) * 2}, "more than .*, from linear"),
        ({"channels": (8,), "padding": 10**9}, "does not fit in memory"),
    ],
)
def test_impossible_networks_are_refused_before_memory_is_allocated(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArchitectureError, match=message) as caught:
        build(ConvNetConfig(**{"channels": (8, 8), **fields}), (1, 28, 28), 10)
    assert "\n" not in str(caught.value)
