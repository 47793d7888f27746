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
    stack, layers = _Stack(config, image_shape), list[Named]()
    pairs = [config.numbers[start : start + 2] for start in range(1, len(config.channels), 2)]
    for block in [config.numbers[:1], *pairs] if config.residual else [config.numbers]:
        layers += stack.block(block)
    features = stack.channels * stack.height * stack.width
    if config.dropout_conv:
        layers.append(("dropout_conv", nn.Dropout(config.dropout_conv)))
    if config.head == "global":
        features = stack.channels
        layers.append(("global_pool", nn.AdaptiveAvgPool2d(1)))
    layers.append(("flatten", nn.Flatten()))
    linear = MLPConfig(
        hidden=config.hidden, activation=config.activation, dropout=config.dropout_linear
    )
    return sequence([*layers, *linear_layers(linear, features, classes, len(config.channels))])


class _Stack:
    """Makes convolutions by their number, each with what the configuration puts around it.

    channels, height, width: of the map so far.
    """

    def __init__(self, config: ConvNetConfig, image_shape: ImageShape) -> None:
        self.config = config
        self.channels, self.height, self.width = image_shape
        self.pools: Collection[int] = config.numbers
        if config.pool_after == "auto":
            side = min(self.height, self.width)
            self.pools = automatic(side, config.kernels, config.paddings)
        elif isinstance(config.pool_after, tuple):
            self.pools = config.pool_after
        # Batch norm is between convolution and activation, or after the pooling.
        places = config.numbers if config.batch_norm_place == "conv" else self.pools
        self.norms: Collection[int] = places if config.batch_norm is True else ()
        if isinstance(config.batch_norm, tuple):
            self.norms = config.batch_norm
        for number in self.norms:
            if number not in places:
                raise ArchitectureError(
                    f"batch_norm is to follow the pooling of convolution {number}, but pooling is "
                    f"only after {list(places)}; list those or use batch_norm_place 'conv'"
                )

    def block(self, numbers: Sequence[int]) -> list[Named]:
        """Convolutions up to the activation and pooling of the last; if residual, a shortcut goes
        around all but the first of the network."""
        *inner, last = numbers
        main, shortcut, channels = list[Named](), list[Named](), self.channels
        for number in inner:
            main += self.convolution(number) + self.activation_and_pool(number)
            if number in self.pools:
                shortcut.append((f"skip_pool{number}", self.pool()))
        main += self.convolution(last)
        if self.config.residual and last > 1:
            if channels != self.channels:
                projection = nn.Conv2d(channels, self.channels, 1, bias=False)
                shortcut.append((f"skip{last}", projection))
                shortcut += self.norm(last, "conv", "skip_norm")
            main = [(f"residual{last}", Residual(main, shortcut))]
        return main + self.activation_and_pool(last)

    def convolution(self, number: int) -> list[Named]:
        kernel, padding = self.config.kernels[number - 1], self.config.paddings[number - 1]
        sides = self.height, self.width
        self.height, self.width = (convolved(side, kernel, padding) for side in sides)
        label = f"convolution {number} ({kernel}x{kernel}, padding {padding})"
        before, after = "x".join(map(str, sides)), f"{self.height}x{self.width}"
        if min(self.height, self.width) < 1:
            raise ArchitectureError(
                f"{label} does not fit its input of {before}; use padding 'same', a smaller "
                "kernel, fewer convolutions or less pooling"
            )
        if self.config.residual and number > 1 and before != after:
            raise ArchitectureError(
                f"{label} turns {before} into {after}, but a shortcut needs the size "
                "kept; use padding 'same' or no residual connections"
            )
        channels, self.channels = self.channels, self.config.channels[number - 1]
        module = nn.Conv2d(channels, self.channels, kernel, padding=padding)
        return [(f"conv{number}", module), *self.norm(number, "conv")]

    def norm(self, number: int, place: str, name: str = "norm") -> list[Named]:
        """Batch norm, if the convolution has it at that place."""
        if place != self.config.batch_norm_place or number not in self.norms:
            return []
        return [(f"{name}{number}", nn.BatchNorm2d(self.channels))]

    def activation_and_pool(self, number: int) -> list[Named]:
        """The end of a layer, in the cheaper of two equal orders.

        The maximum of a rising function is the function of the maximum, so max pooling goes
        first and leaves the activation a quarter of the values. Forward and backward on CPU, batch
        128, 1 and 2 threads: 16 and 17 % more images a second for [32, 64], 8 % for
        [32, 64, 128] with batch norm. GELU first falls, then rises, so there, as for the average,
        the order stays.
        """
        function = self.config.activation
        layers: list[Named] = [(f"{function}{number}", ACTIVATIONS[function]())]
        if number in self.pools:
            if min(self.height, self.width) < 2:
                raise ArchitectureError(
                    f"the 2x2 pooling after convolution {number} does not fit its input of "
                    f"{self.height}x{self.width}; use pool_after 'auto' or pool after fewer "
                    "convolutions"
                )
            self.height, self.width = self.height // 2, self.width // 2
            first = self.config.pool == "max" and function != "gelu"
            layers.insert(0 if first else 1, (f"pool{number}", self.pool()))
        return layers + self.norm(number, "pool")

    def pool(self) -> nn.Module:
        return nn.MaxPool2d(2) if self.config.pool == "max" else nn.AvgPool2d(2)


def convolved(side: int, kernel: int, padding: int) -> int:
    """Side of the output of a convolution; below 1 where it does not fit."""
    return side - kernel + 2 * padding + 1


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
            left = convolved(left, kernel, padding)
            if number in places:
                left //= 2
            if left < (SMALLEST_MAP if number in places else 1):
                break
        else:
            return places
    return ()
