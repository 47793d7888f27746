"""From the configuration of a convolutional network to its modules, in running order."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import nn

from models.blocks import ACTIVATIONS, Named, Residual, sequence
from models.checks import ArchitectureError
from models.convnet import ConvNetConfig
from models.family import ImageShape
from models.mlp import MLPConfig, linear_layers

# On a 2x2 map a padded 3x3 kernel looks at zeros with 5 of its 9 weights wherever it is, on a
# 3x3 map only in the corners: automatic pooling goes no further than that.
SMALLEST_MAP = 3


def build(config: ConvNetConfig, image_shape: ImageShape, classes: int) -> nn.Module:
    """Raises ArchitectureError where a convolution or a pooling does not fit the map it gets."""
    pools: Collection[int] = config.numbers
    if config.pool_after == "auto":
        pools = automatic(min(image_shape[1:]), config.kernels, config.paddings)
    elif isinstance(config.pool_after, tuple):
        pools = config.pool_after
    norms = _norms(config, pools)
    height, width = _final_size(config, image_shape[1:], pools)
    widths = (image_shape[0], *config.channels)
    function, depth = config.activation, len(config.channels)
    # The maximum of a rising function is the function of the maximum, so max pooling goes first
    # and leaves the activation a quarter of the values: 8 to 17 % more images a second on a CPU,
    # forward and backward. GELU first falls, then rises, so there, as for the average, the order
    # stays.
    pools_first = config.pool == "max" and function != "gelu"

    def pool() -> nn.Module:
        return nn.MaxPool2d(2) if config.pool == "max" else nn.AvgPool2d(2)

    def norm(number: int, place: str, name: str = "norm") -> list[Named]:
        wanted = place == config.batch_norm_place and number in norms
        return [(f"{name}{number}", nn.BatchNorm2d(widths[number]))] if wanted else []

    def convolution(number: int) -> list[Named]:
        kernel, padding = config.kernels[number - 1], config.paddings[number - 1]
        module = nn.Conv2d(widths[number - 1], widths[number], kernel, padding=padding)
        return [(f"conv{number}", module), *norm(number, "conv")]

    def ending(number: int) -> list[Named]:
        layers: list[Named] = [(f"{function}{number}", ACTIVATIONS[function]())]
        if number in pools:
            layers.insert(0 if pools_first else 1, (f"pool{number}", pool()))
        return layers + norm(number, "pool")

    def block(numbers: Sequence[int]) -> list[Named]:
        """If residual, a shortcut goes around all convolutions but the first of the network."""
        *inner, last = numbers
        main, shortcut = list[Named](), list[Named]()
        for number in inner:
            main += convolution(number) + ending(number)
            if number in pools:
                shortcut.append((f"skip_pool{number}", pool()))
        main += convolution(last)
        if config.residual and last > 1:
            before, after = widths[numbers[0] - 1], widths[last]
            if before != after:
                shortcut.append((f"skip{last}", nn.Conv2d(before, after, 1, bias=False)))
                shortcut += norm(last, "conv", "skip_norm")
            main = [(f"residual{last}", Residual(main, shortcut))]
        return main + ending(last)

    pairs = [config.numbers[start : start + 2] for start in range(1, depth, 2)]
    blocks = [config.numbers[:1], *pairs] if config.residual else [config.numbers]
    layers = [layer for numbers in blocks for layer in block(numbers)]
    if config.dropout_conv:
        layers.append(("dropout_conv", nn.Dropout(config.dropout_conv)))
    if config.head == "global":
        layers.append(("global_pool", nn.AdaptiveAvgPool2d(1)))
        height = width = 1
    layers.append(("flatten", nn.Flatten()))
    linear = MLPConfig(hidden=config.hidden, activation=function, dropout=config.dropout_linear)
    return sequence([*layers, *linear_layers(linear, widths[-1] * height * width, classes, depth)])


def _norms(config: ConvNetConfig, pools: Collection[int]) -> Collection[int]:
    """The convolutions with batch norm: ahead of the activation, or after the pooling."""
    places = config.numbers if config.batch_norm_place == "conv" else pools
    if not isinstance(config.batch_norm, tuple):
        return places if config.batch_norm else ()
    for number in config.batch_norm:
        if number not in places:
            raise ArchitectureError(
                f"batch_norm is to follow the pooling of convolution {number}, but pooling is "
                f"only after {list(places)}; list those or use batch_norm_place 'conv'"
            )
    return config.batch_norm


def _final_size(
    config: ConvNetConfig, size: Sequence[int], pools: Collection[int]
) -> tuple[int, ...]:
    """Height and width of the last maps. Raises ArchitectureError where a layer does not fit."""
    height_width = tuple(size)
    for number, kernel, padding in zip(
        config.numbers, config.kernels, config.paddings, strict=True
    ):
        after = tuple(side - kernel + 2 * padding + 1 for side in height_width)
        label = f"convolution {number} ({kernel}x{kernel}, padding {padding})"
        before, there = ("x".join(map(str, sides)) for sides in (height_width, after))
        if min(after) < 1:
            raise ArchitectureError(
                f"{label} does not fit its input of {before}; use padding 'same', a smaller "
                "kernel, fewer convolutions or less pooling"
            )
        if config.residual and number > 1 and before != there:
            raise ArchitectureError(
                f"{label} turns {before} into {there}, but a shortcut needs the size kept; use "
                "padding 'same' or no residual connections"
            )
        if number in pools and min(after) < 2:
            raise ArchitectureError(
                f"the 2x2 pooling after convolution {number} does not fit its input of {there}; "
                "use pool_after 'auto' or pool after fewer convolutions"
            )
        height_width = tuple(side // 2 for side in after) if number in pools else after
    return height_width


def automatic(side: int, kernels: Sequence[int], paddings: Sequence[int]) -> tuple[int, ...]:
    """As many poolings as leave the map at least `SMALLEST_MAP` wide and room for what follows.

    `side` is the image's shorter side, `kernels` and `paddings` have one entry for each
    convolution. The result holds layer numbers from 1. With fewer poolings than convolutions the
    first comes after the first convolution, since the full-size maps cost most, and the
    others follow evenly; for 8 convolutions on 28x28 these are 1, 4, 7. Where not even the
    convolutions alone fit, there is nothing to place and the result is empty.
    """
    layers = len(kernels)
    for count in range(layers, 0, -1):
        places = tuple(1 + -(-index * layers // count) for index in range(count))
        left = side
        for number, (kernel, padding) in enumerate(zip(kernels, paddings, strict=True), start=1):
            left += 2 * padding - kernel + 1
            if number in places:
                left //= 2
            if left < (SMALLEST_MAP if number in places else 1):
                break
        else:
            return places
    return ()
