"""Convolutional networks: convolutions with pooling between them, then linear layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from models.checks import MOST_LAYERS, ArchitectureError, by, shown
from models.family import (
    Architecture,
    Family,
    ImageShape,
    Parameter,
    check_fields,
    choice,
    count,
    counts,
    number,
)
from models.mlp import PARAMETERS as LINEAR_PARAMETERS
from models.mlp import MLPConfig, activation, linear_layers

if TYPE_CHECKING:
    from torch import nn

    from models.blocks import Named

# On a 2x2 map a padded 3x3 kernel applies 5 of its 9 weights to zeros at every position, on a
# 3x3 map only in the corners: automatic pooling stops there.
SMALLEST_MAP = 3
GROWTH_STAGES = 2  # the width doubles after each of the first two convolutions, then stays
PARAMETERS = {
    "depth": count(3, "number of convolutions", most=MOST_LAYERS),
    "width": count(32, "channels of the first; doubles after each of the first two"),
    "channels": counts((), "channels of each convolution, instead of depth and width"),
    "kernel_sizes": counts((3,), "one for all, or one for each"),
    "padding": Parameter(
        kinds=(int, str, tuple),
        default="same",
        options=("same",),
        description='"same", a number for all, or one for each',
        least=0,
    ),
    "batch_norm_place": choice(("conv", "pool"), "conv", "before the activation or after pooling"),
    "pool": choice(("max", "average"), "max", "kind of pooling"),
    "pool_after": Parameter(
        kinds=(str, tuple),
        default="auto",
        options=("auto", "every"),
        description="convolutions followed by 2x2 pooling; auto: as many as fit",
        least=1,
    ),
    "residual": Parameter(kinds=(bool,), default=False, description="shortcuts around layer pairs"),
    "head": choice(("flatten", "global"), "flatten", "what the linear layers see"),
    "dropout_conv": number(0.0, "rate after the last convolution", below=1),
    **LINEAR_PARAMETERS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNetConfig(Architecture):
    """A stack of convolutions (stride 1), each followed by its activation and, if configured, by
    batch norm and 2x2 pooling; then the head and the linear layers. Layers count from 1.

    batch_norm_place: "conv", between convolution and activation (Ioffe & Szegedy 2015), or
        "pool", after the pooling; then True means after every pooling.
    pool_after: "every" convolution, those listed (none for an empty list), or "auto": as many as
        leave a map of 3x3 or more, spread evenly, however deep the network.
    residual: shortcuts (He et al. 2015, arXiv 1512.03385, equations 1 and 2): the first
        convolution is the stem; every two after it (or a single last one) form a block
        y = activation(F(x) + W x), whose F has no activation at its end. W is the identity or, if
        the number of channels changes, a 1x1 convolution without bias, with batch norm if F ends
        in one. Pooling within F is also done in the shortcut, before W.
        Needs convolutions that keep the size; a single convolution has no shortcut.
    head: "flatten" or "global", the mean of each map (Lin et al. 2013).
    """

    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...] = (3,)
    padding: int | str | tuple[int, ...] = "same"  # keeps the size and needs odd kernels
    batch_norm: bool | tuple[int, ...] = False  # for all convolutions or for those listed
    batch_norm_place: str = "conv"
    activation: str = "relu"
    pool: str = "max"
    pool_after: str | tuple[int, ...] = "auto"
    residual: bool = False
    head: str = "flatten"
    hidden: tuple[int, ...] = ()
    dropout_conv: float = 0.0  # after the last convolution, its activation, pooling, batch norm
    dropout_linear: float = 0.0  # before every linear layer but the first, and before the output

    def __post_init__(self) -> None:
        values = asdict(self)
        check_fields(values, {**PARAMETERS, "dropout_linear": PARAMETERS["dropout"]})
        depth = len(self.channels)
        if depth == 0:
            raise ArchitectureError("channels must have an entry for at least one convolution")
        for name, allowed in (("kernel_sizes", {1, depth}), ("padding", {depth})):
            value = values[name]
            if isinstance(value, tuple) and len(value) not in allowed:
                wanted = " or ".join(map(str, sorted(allowed)))
                raise ArchitectureError(
                    f"{name} must have {wanted} entries for {depth} convolutions, "
                    f"but has {len(value)}: {shown(value)}"
                )
        for name in ("batch_norm", "pool_after"):
            value = values[name]
            if isinstance(value, tuple) and list(value) != sorted(set(value) & set(self.numbers)):
                raise ArchitectureError(
                    f"{name} must name convolutions from 1 to {depth}, each once and in rising "
                    f"order, but got {shown(value)}"
                )
        for layer, kernel, _ in self.convolutions:
            if self.padding == "same" and kernel % 2 == 0:
                raise ArchitectureError(
                    f"padding 'same' needs odd kernels, but got {kernel} for convolution {layer}; "
                    "use an odd kernel size or give the padding as a number"
                )

    @property
    def numbers(self) -> range:
        """The numbers of the convolutions, from 1."""
        return range(1, len(self.channels) + 1)

    @property
    def convolutions(self) -> list[tuple[int, int, int]]:
        """Number, kernel size and padding of each convolution."""
        kernels = self.kernel_sizes * (len(self.channels) // len(self.kernel_sizes))
        if isinstance(self.padding, tuple):
            paddings = self.padding
        else:
            paddings = tuple(
                k // 2 if self.padding == "same" else int(self.padding) for k in kernels
            )
        return list(zip(self.numbers, kernels, paddings, strict=True))


def _build(config: ConvNetConfig, image_shape: ImageShape, classes: int) -> nn.Module:
    """Raises ArchitectureError if a convolution or a pooling does not fit its input map."""
    from torch import nn

    from models.blocks import Named, Residual, sequence

    pools: Collection[int] = config.numbers
    if config.pool_after == "auto":
        pools = _automatic(min(image_shape[1:]), config.convolutions)
    elif isinstance(config.pool_after, tuple):
        pools = config.pool_after
    norms = _norms(config, pools)
    height, width = _final_size(config, image_shape[1:], pools)
    widths = (image_shape[0], *config.channels)
    function, depth = config.activation, len(config.channels)
    # An increasing function commutes with the maximum, so max pooling goes first and leaves the
    # activation a quarter of the values: 8 to 17 % more images per second on a CPU, forward and
    # backward. GELU first falls, then rises, so with GELU, as with average pooling, the order
    # stays.
    pools_first = config.pool == "max" and function != "gelu"

    def pool() -> nn.Module:
        return nn.MaxPool2d(2) if config.pool == "max" else nn.AvgPool2d(2)

    def norm(layer: int, place: str, name: str = "norm") -> list[Named]:
        wanted = place == config.batch_norm_place and layer in norms
        return [(f"{name}{layer}", nn.BatchNorm2d(widths[layer]))] if wanted else []

    def convolution(layer: int) -> list[Named]:
        _, kernel, padding = config.convolutions[layer - 1]
        module = nn.Conv2d(widths[layer - 1], widths[layer], kernel, padding=padding)
        return [(f"conv{layer}", module), *norm(layer, "conv")]

    def ending(layer: int) -> list[Named]:
        layers: list[Named] = [(f"{function}{layer}", activation(function))]
        if layer in pools:
            layers.insert(0 if pools_first else 1, (f"pool{layer}", pool()))
        return layers + norm(layer, "pool")

    def block(numbers: Sequence[int]) -> list[Named]:
        """If residual, a shortcut goes around all convolutions but the first of the network."""
        *inner, last = numbers
        main, shortcut = list[Named](), list[Named]()
        for layer in inner:
            main += convolution(layer) + ending(layer)
            if layer in pools:
                shortcut.append((f"skip_pool{layer}", pool()))
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
    """The convolutions with batch norm: before the activation, or after the pooling."""
    places = config.numbers if config.batch_norm_place == "conv" else pools
    if not isinstance(config.batch_norm, tuple):
        return places if config.batch_norm else ()
    for layer in config.batch_norm:
        if layer not in places:
            raise ArchitectureError(
                f"batch_norm should follow the pooling of convolution {layer}, but pooling is "
                f"only after {list(places)}; list those or use batch_norm_place 'conv'"
            )
    return config.batch_norm


def _final_size(
    config: ConvNetConfig, size: Sequence[int], pools: Collection[int]
) -> tuple[int, ...]:
    """Height and width of the last maps. Raises ArchitectureError if a layer does not fit."""
    sides = tuple(size)
    for layer, kernel, padding in config.convolutions:
        before, sides = sides, tuple(side - kernel + 2 * padding + 1 for side in sides)
        label = f"convolution {layer} ({kernel}x{kernel}, padding {padding})"
        if min(sides) < 1 or (layer in pools and min(sides) < 2):
            what = label if min(sides) < 1 else f"the 2x2 pooling after convolution {layer}"
            raise ArchitectureError(
                f"{what} does not fit its input of {by(before if what == label else sides)}; use "
                "padding 'same', a smaller kernel, fewer convolutions or pool_after 'auto'"
            )
        if config.residual and layer > 1 and before != sides:
            raise ArchitectureError(
                f"{label} turns {by(before)} into {by(sides)}, but a shortcut needs equal sizes; "
                "use padding 'same' or no residual connections"
            )
        if layer in pools:
            sides = tuple(side // 2 for side in sides)
    return sides


def _automatic(side: int, convolutions: Sequence[tuple[int, int, int]]) -> tuple[int, ...]:
    """As many poolings as leave the map at least `SMALLEST_MAP` wide, with room for later layers.

    `side` is the image's shorter side. With fewer poolings than convolutions, the first comes after
    the first convolution, because the full-size maps cost most, and the others follow evenly; for 8
    convolutions on 28x28 these are 1, 4, 7. Empty if not even the convolutions alone fit.
    """
    layers = len(convolutions)
    for most in range(layers, 0, -1):
        places = tuple(1 + -(-index * layers // most) for index in range(most))
        left = side
        for layer, kernel, padding in convolutions:
            left += 2 * padding - kernel + 1
            if layer in places:
                left //= 2
            if left < (SMALLEST_MAP if layer in places else 1):
                break
        else:
            return places
    return ()


def _with_channels(values: Mapping[str, Any]) -> Mapping[str, Any]:
    depth, width = values["depth"], values["width"]
    check_fields({"depth": depth, "width": width}, PARAMETERS)
    grown = tuple(width * 2 ** min(layer, GROWTH_STAGES) for layer in range(depth))
    return {"channels": values["channels"] or grown}


FAMILY = Family(
    description="convolutions with pooling between them, then linear layers",
    config=ConvNetConfig,
    build=_build,
    parameters=PARAMETERS,
    renamed={"dropout_linear": "dropout"},
    adjust=_with_channels,
)
