"""The order of layers, and the built forward pass against one written down naively."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import ConvNetConfig, build, plan
from models.layers import Layer, Residual

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def naive_logits(config: ConvNetConfig, weights: Iterator[Tensor], x: Tensor) -> Tensor:
    """The textbook order, in training mode, from the configuration alone (dropout left out).

    `weights` are those of the module in its own order: main path, then shortcut.
    """
    activation = ACTIVATIONS[config.activation]
    pool = F.max_pool2d if config.pool == "max" else F.avg_pool2d
    depth = len(config.channels)
    every = range(1, depth + 1)
    assert config.pool_after != "auto"
    pooled = every if config.pool_after == "every" else config.pool_after
    place = config.batch_norm_place
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
        x = F.conv2d(x, next(weights), next(weights), padding=config.paddings[number - 1])
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
    """Logits and all gradients, in float64, where ties and rounding do not blur the matter."""
    torch.manual_seed(0)
    model = build(config, image, 10).double()
    images = torch.randn(4, *image, dtype=torch.float64)
    target = torch.randn(4, 10, dtype=torch.float64)
    built = model(images.to(memory_format=torch.channels_last))
    weights = iter(model.parameters())
    naive = naive_logits(config, weights, images)
    assert next(weights, None) is None
    torch.testing.assert_close(built, naive)
    parameters = list(model.parameters())
    torch.testing.assert_close(
        torch.autograd.grad((built * target).sum(), parameters),
        torch.autograd.grad((naive * target).sum(), parameters),
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pool", ["max", "average"])
@pytest.mark.parametrize("place", ["conv", "pool"])
def test_every_activation_and_pooling_equals_the_naive_order(
    activation: Any, pool: Any, place: Any
) -> None:
    config = ConvNetConfig(
        channels=(6, 8, 8, 5),
        activation=activation,
        pool=pool,
        pool_after=(1, 3),
        batch_norm=True,
        batch_norm_place=place,
        hidden=(12,),
    )
    agrees_with_naive(config, (3, 13, 12))
    residual = {"residual": True, "head": "global", "pool_after": (2, 3)}
    agrees_with_naive(ConvNetConfig(**{**fields(config), **residual}), (3, 13, 12))


def test_random_networks_equal_the_naive_order(
    random_cases: Callable[[int, int], list[Any]],
) -> None:
    checked = 0
    for architecture, image, _ in random_cases(400, 4):
        if not isinstance(architecture, ConvNetConfig) or architecture.pool_after == "auto":
            continue
        without = {"dropout_conv": 0.0, "dropout_linear": 0.0}
        agrees_with_naive(ConvNetConfig(**{**fields(architecture), **without}), image)
        checked += 1
    assert checked > 100


def fields(config: ConvNetConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def names(layers: tuple[Layer, ...]) -> list[str]:
    return [layer.name for layer in layers]


def test_max_pooling_goes_before_a_rising_activation_only() -> None:
    def order(**kinds: Any) -> list[str]:
        config = ConvNetConfig(channels=(4,), batch_norm=True, **kinds)
        return names(plan(config, (1, 8, 8), 10))[1:4]

    for activation in ACTIVATIONS:
        if activation != "gelu":
            assert order(activation=activation) == ["norm1", "pool1", f"{activation}1"]
        assert order(activation=activation, pool="average") == ["norm1", f"{activation}1", "pool1"]
    assert order(activation="gelu") == ["norm1", "gelu1", "pool1"]


def test_dropout_stands_where_the_reports_put_it() -> None:
    def tail(**rates: Any) -> list[str]:
        return names(plan(ConvNetConfig(channels=(4,), **rates), (1, 8, 8), 10))[3:]

    linear = tail(hidden=(8, 8), dropout_linear=0.2)
    assert linear == [
        *("flatten", "linear1", "relu2", "dropout1"),
        *("linear2", "relu3", "dropout2", "output"),
    ]
    assert tail(dropout_conv=0.5) == ["dropout_conv", "flatten", "output"]
    assert tail(head="global", dropout_linear=0.5) == [
        *("global_pool", "flatten", "dropout1", "output")
    ]


@pytest.mark.parametrize(
    ("depth", "blocks"), [(1, []), (2, [2]), (3, [3]), (4, [3, 4]), (5, [3, 5])]
)
def test_every_convolution_but_the_stem_has_one_shortcut(depth: int, blocks: list[int]) -> None:
    layers = plan(ConvNetConfig(channels=(4,) * depth, residual=True), (1, 28, 28), 10)
    residuals = [layer for layer in layers if isinstance(layer, Residual)]
    assert names(tuple(residuals)) == [f"residual{last}" for last in blocks]
    inside = [layer.name for block in residuals for layer in block.main if "conv" in layer.name]
    assert inside == [f"conv{number}" for number in range(2, depth + 1)]


def test_a_pooling_inside_a_block_is_done_in_its_shortcut_too() -> None:
    config = ConvNetConfig(channels=(4, 4, 8), residual=True, batch_norm=True, pool_after=(2, 3))
    (block,) = (x for x in plan(config, (1, 28, 28), 10) if isinstance(x, Residual))
    assert names(block.main) == ["conv2", "norm2", "pool2", "relu2", "conv3", "norm3"]
    assert names(block.shortcut) == ["skip_pool2", "skip3", "skip_norm3"]
    assert block.main[-1].output == block.shortcut[-1].output == (8, 14, 14)
    assert block.shortcut[1].biases == 0
