"""What a network is made of, written down in numbers alone.

A plan is a tuple of these records in the order in which they run. `models.modules` makes torch
modules of it and `models.anatomy` a table, so that what is counted is what is built. Nothing here
needs torch.

Shapes leave out the batch: (channels, height, width) for images, (features,) for vectors.
`size` and `computed` are formulas as one would write them by hand; evaluated, they give the
output size and the number of parameters.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

Shape = tuple[int, ...]
ActivationName = Literal["relu", "leaky_relu", "elu", "gelu", "tanh", "sigmoid"]
PoolName = Literal["max", "average"]

POOL = 2  # every pooling is 2x2 with stride 2: it halves the sides, dropping an odd last row


def convolved(side: int, kernel: int, padding: int, stride: int = 1) -> int:
    """Side of the output of a convolution; below 1 where it does not fit."""
    return (side - kernel + 2 * padding) // stride + 1


def pooled(side: int) -> int:
    """Side after one pooling; 0 where it does not fit."""
    return side // POOL


def _stepped(side: int, kernel: int, padding: int, stride: int) -> str:
    quotient = f"({side} - {kernel} + 2*{padding})/{stride}"
    whole = (side - kernel + 2 * padding) % stride == 0
    return f"{quotient} + 1" if whole else f"floor({quotient}) + 1"


def _both_sides(formula: Callable[[int], str], before: Shape, after: Shape) -> str:
    """The formula once for square images, else for height and width."""
    sides = [f"{formula(side)} = {left}" for side, left in zip(before[1:], after[1:], strict=True)]
    return ", ".join(dict.fromkeys(sides))


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """The common case: no parameters, and the shape stays as it is."""

    name: str
    input: Shape

    @property
    def output(self) -> Shape:
        return self.input

    @property
    def size(self) -> str:
        """How the output size comes about; empty where it is that of the input."""
        return ""

    @property
    def weights(self) -> int:
        return 0

    @property
    def biases(self) -> int:
        return 0

    @property
    def computed(self) -> str:
        """How the number of parameters comes about; empty where there are none."""
        return ""

    @property
    def multiply_adds(self) -> int:
        """For one image, of convolutions and linear layers; all else costs next to nothing."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Convolution(Layer):
    """`padding` rows of zeros on all four sides."""

    channels: int
    kernel: int
    padding: int
    bias: bool = True
    stride: int = 1

    @property
    def output(self) -> Shape:
        _, height, width = self.input
        return (
            self.channels,
            convolved(height, self.kernel, self.padding, self.stride),
            convolved(width, self.kernel, self.padding, self.stride),
        )

    @property
    def size(self) -> str:
        return _both_sides(
            lambda side: _stepped(side, self.kernel, self.padding, self.stride),
            self.input,
            self.output,
        )

    @property
    def weights(self) -> int:
        return self.channels * self.input[0] * self.kernel**2

    @property
    def biases(self) -> int:
        return self.channels if self.bias else 0

    @property
    def computed(self) -> str:
        weights = f"{self.channels}*{self.input[0]}*{self.kernel}*{self.kernel}"
        return f"{weights} + {self.biases}" if self.bias else weights

    @property
    def multiply_adds(self) -> int:
        _, height, width = self.output
        return self.weights * height * width


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchNorm(Layer):
    """One scale (counted as weight) and one shift (as bias) for each channel or feature."""

    @property
    def weights(self) -> int:
        return self.input[0]

    @property
    def biases(self) -> int:
        return self.input[0]

    @property
    def computed(self) -> str:
        return f"{self.weights} + {self.biases}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Activation(Layer):
    function: ActivationName


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool(Layer):
    kind: PoolName

    @property
    def output(self) -> Shape:
        channels, height, width = self.input
        return (channels, pooled(height), pooled(width))

    @property
    def size(self) -> str:
        def formula(side: int) -> str:
            halved = f"({side} - {POOL})/{POOL}"
            return f"{halved} + 1" if side % POOL == 0 else f"floor({halved}) + 1"

        return _both_sides(formula, self.input, self.output)


@dataclass(frozen=True, kw_only=True, slots=True)
class OverlappingPool(Layer):
    """Maximum over 3x3 with stride 2 and a padding of 1, as in the stem of a ResNet."""

    @property
    def output(self) -> Shape:
        channels, height, width = self.input
        return (channels, convolved(height, 3, 1, 2), convolved(width, 3, 1, 2))

    @property
    def size(self) -> str:
        return _both_sides(lambda side: _stepped(side, 3, 1, 2), self.input, self.output)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resize(Layer):
    """Enlarges or shrinks images to `side` x `side`, bilinearly."""

    side: int

    @property
    def output(self) -> Shape:
        return (self.input[0], self.side, self.side)


@dataclass(frozen=True, kw_only=True, slots=True)
class Colour(Layer):
    """Makes three equal channels of a grey one, for networks that were trained on colour."""

    @property
    def output(self) -> Shape:
        return (3, *self.input[1:])


@dataclass(frozen=True, kw_only=True, slots=True)
class GlobalPool(Layer):
    """The mean of each feature map: the image's size no longer matters to what follows."""

    @property
    def output(self) -> Shape:
        return (self.input[0], 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Flatten(Layer):
    """Channel by channel, row by row, whatever the memory format."""

    @property
    def output(self) -> Shape:
        return (prod(self.input),)

    @property
    def size(self) -> str:
        return f"{'*'.join(map(str, self.input))} = {prod(self.input)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropout(Layer):
    """Sets single values to zero in training with probability `rate`, and scales up the rest."""

    rate: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear(Layer):
    features: int

    @property
    def output(self) -> Shape:
        return (self.features,)

    @property
    def weights(self) -> int:
        return self.input[0] * self.features

    @property
    def biases(self) -> int:
        return self.features

    @property
    def computed(self) -> str:
        return f"{self.input[0]}*{self.features} + {self.biases}"

    @property
    def multiply_adds(self) -> int:
        return self.weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual(Layer):
    """The sum of two paths from one input; an empty `shortcut` is the identity."""

    main: tuple[Layer, ...]
    shortcut: tuple[Layer, ...]

    @property
    def output(self) -> Shape:
        return self.main[-1].output


def flat(layers: Iterable[Layer]) -> Iterator[Layer]:
    """In running order; a shortcut's layers follow those that it goes around."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from flat(layer.main)
            yield from flat(layer.shortcut)
        yield layer


class Chain:
    """Layers one after another: each takes the shape that the one before it leaves."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.layers: list[Layer] = []

    def add(self, *layers: Layer) -> None:
        for layer in layers:
            assert layer.input == self.shape, f"{layer} after {self.shape}"
            self.layers.append(layer)
            self.shape = layer.output
