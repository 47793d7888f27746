"""Convolutional networks: convolutions with pooling between them, then linear layers.

`convnet_build` makes the modules; here are the configuration, its words and its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from models.checks import (
    MOST_LAYERS,
    ArchitectureError,
    check_choice,
    check_counts,
    check_layer_numbers,
    check_length,
    check_rate,
    check_switch,
    is_count,
    shown,
)
from models.family import (
    Architecture,
    Family,
    ImageShape,
    Parameter,
    choice,
    compact,
    count,
    listed,
    number,
)
from models.mlp import ACTIVATION_WORDS, ActivationName, hidden_words
from models.mlp import PARAMETERS as LINEAR_PARAMETERS

if TYPE_CHECKING:
    from torch import nn

NormPlace = Literal["conv", "pool"]
PoolName = Literal["max", "average"]
HeadName = Literal["flatten", "global"]
GROWTH_STAGES = 2  # the width doubles after each of the first two convolutions, then stays


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNetConfig(Architecture):
    """A stack of convolutions (stride 1), each followed by its activation and, where said, by
    batch norm and 2x2 pooling; then the head and the linear layers. Layers count from 1.

    channels: feature maps of each convolution.
    kernel_sizes: one for each convolution, or one for all.
    padding: zeros on each side: a number for all, one for each convolution, or "same", which
        keeps the size and needs odd kernels.
    batch_norm: for all convolutions or for those listed.
    batch_norm_place: "conv", between convolution and activation (Ioffe & Szegedy 2015), or
        "pool", after the pooling; there True means after every pooling.
    pool_after: "every" convolution, those listed (none for an empty list), or "auto": as many as
        leave a map of 3x3 or more, spread evenly, however deep the network.
    residual: shortcuts (He et al. 2015, arXiv 1512.03385, equations 1 and 2): the first
        convolution is the stem; of those after it each two (a last one left over: alone) make a
        block y = activation(F(x) + W x), whose F has no activation at its end. W is the identity,
        or where the number of channels changes a 1x1 convolution without bias, with batch norm
        where F ends in one. A pooling within F is done in the shortcut as well, ahead of W.
        Needs convolutions that keep the size; a single convolution has no shortcut.
    head: "flatten" or "global", the mean of each map (Lin et al. 2013).
    hidden: units of the linear layers before the output.
    dropout_conv: rate after the last convolution (its activation, pooling, batch norm).
    dropout_linear: rate before every linear layer but the first, and before the output.
    """

    channels: tuple[int, ...]
    kernel_sizes: tuple[int, ...] = (3,)
    padding: int | Literal["same"] | tuple[int, ...] = "same"
    batch_norm: bool | tuple[int, ...] = False
    batch_norm_place: NormPlace = "conv"
    activation: ActivationName = "relu"
    pool: PoolName = "max"
    pool_after: Literal["auto", "every"] | tuple[int, ...] = "auto"
    residual: bool = False
    head: HeadName = "flatten"
    hidden: tuple[int, ...] = ()
    dropout_conv: float = 0.0
    dropout_linear: float = 0.0

    def __post_init__(self) -> None:
        check_counts("channels", self.channels)
        depth = len(self.channels)
        if depth == 0:
            raise ArchitectureError("channels must have an entry for at least one convolution")
        check_counts("kernel_sizes", self.kernel_sizes)
        check_length("kernel_sizes", self.kernel_sizes, (1, depth), depth)
        self._check_padding()
        if not isinstance(self.batch_norm, bool):
            check_layer_numbers("batch_norm", self.batch_norm, depth)
        check_choice("batch_norm_place", self.batch_norm_place, get_args(NormPlace))
        check_choice("activation", self.activation, get_args(ActivationName))
        check_choice("pool", self.pool, get_args(PoolName))
        if isinstance(self.pool_after, str):
            check_choice("pool_after", self.pool_after, ("auto", "every", "a list of layers"))
        else:
            check_layer_numbers("pool_after", self.pool_after, depth)
        check_switch("residual", self.residual)
        check_choice("head", self.head, get_args(HeadName))
        check_counts("hidden", self.hidden)
        check_rate("dropout_conv", self.dropout_conv)
        check_rate("dropout_linear", self.dropout_linear)

    def _check_padding(self) -> None:
        depth = len(self.channels)
        if self.padding == "same":
            for number, kernel in enumerate(self.kernels, start=1):
                if kernel % 2 == 0:
                    raise ArchitectureError(
                        f"padding 'same' needs odd kernels, but got {kernel} for convolution "
                        f"{number}; use an odd kernel size or give the padding as a number"
                    )
        elif isinstance(self.padding, tuple):
            check_counts("padding", self.padding, least=0)
            check_length("padding", self.padding, (depth,), depth)
        elif not is_count(self.padding, least=0):
            raise ArchitectureError(
                "padding must be 'same', a whole number from 0 up or a list of them, "
                f"but got {shown(self.padding)}"
            )

    @property
    def kernels(self) -> tuple[int, ...]:
        """The kernel size of each convolution."""
        return self.kernel_sizes * (len(self.channels) // len(self.kernel_sizes))

    @property
    def paddings(self) -> tuple[int, ...]:
        """The padding of each convolution as a number."""
        if self.padding == "same":
            return tuple(kernel // 2 for kernel in self.kernels)
        if isinstance(self.padding, tuple):
            return self.padding
        return (self.padding,) * len(self.channels)


def _build(config: ConvNetConfig, image_shape: ImageShape, classes: int) -> nn.Module:
    from models.convnet_build import build

    return build(config, image_shape, classes)


def _configure(values: Mapping[str, Any]) -> ConvNetConfig:
    depth, width = values["depth"], values["width"]
    if depth > MOST_LAYERS:
        raise ArchitectureError(
            f"depth must be at most {MOST_LAYERS} convolutions, but got {depth}"
        )
    grown = tuple(width * 2 ** min(layer, GROWTH_STAGES) for layer in range(depth))
    same = ("kernel_sizes", "padding", "batch_norm", "batch_norm_place", "activation", "pool",
            "pool_after", "residual", "head", "hidden", "dropout_conv")  # fmt: skip
    return ConvNetConfig(
        channels=values["channels"] or grown,
        dropout_linear=values["dropout"],
        **{name: values[name] for name in same},
    )


def _words(net: ConvNetConfig) -> Iterator[str]:
    many = len(net.channels) > 1
    kind = "residual convolutions" if net.residual else "convolutions" if many else "convolution"
    yield f"{len(net.channels)} {kind} of {listed(net.channels)} channels"
    kernels = net.kernels if len(set(net.kernels)) > 1 else net.kernels[:1]
    yield ", ".join(f"{side}x{side}" for side in kernels)
    if net.padding != "same":
        yield "without padding" if not any(net.paddings) else f"padding {listed(net.paddings)}"
    if net.batch_norm:
        behind = " behind the pooling" if net.batch_norm_place == "pool" else ""
        layers = f" in {listed(net.batch_norm)}" if isinstance(net.batch_norm, tuple) else ""
        yield f"batch norm{behind}{layers}"
    if net.pool_after == ():
        yield "no pooling"
    else:
        after = "" if net.pool_after == "auto" else " after each"
        after = after if isinstance(net.pool_after, str) else f" after {listed(net.pool_after)}"
        yield f"{net.pool} pooling{after}"
    if net.head == "global":
        yield "global average pooling"
    yield hidden_words(net.hidden)
    yield ACTIVATION_WORDS[net.activation]


def _dropout_words(net: ConvNetConfig) -> list[str]:
    places = ((net.dropout_linear, ""), (net.dropout_conv, " after convolutions"))
    return [f"dropout {compact(rate)}{where}" for rate, where in places if rate]


PARAMETERS = {
    "depth": count(3, "number of convolutions"),
    "width": count(32, "channels of the first; doubled after the first two"),
    "channels": Parameter(
        kinds=(tuple,), default=(), description="of each convolution, in place of depth, width"
    ),
    "kernel_sizes": Parameter(kinds=(tuple,), default=(3,), description="one for all, or each"),
    "padding": Parameter(
        kinds=(int, str, tuple),
        default="same",
        options=("same",),
        description='"same", a number for all, or one for each',
    ),
    "batch_norm_place": choice(
        get_args(NormPlace), "conv", "before the activation or after pooling"
    ),
    "pool": choice(get_args(PoolName), "max", "kind of pooling"),
    "pool_after": Parameter(
        kinds=(str, tuple),
        default="auto",
        options=("auto", "every"),
        description="convolutions with 2x2 pooling behind; auto: as many as fit",
    ),
    "residual": Parameter(kinds=(bool,), default=False, description="shortcuts around each two"),
    "head": choice(get_args(HeadName), "flatten", "what the linear layers see"),
    "dropout_conv": number(0.0, "rate after the last convolution"),
    **LINEAR_PARAMETERS,
}

FAMILY = Family(
    description="convolutions with pooling between them, then linear layers",
    config=ConvNetConfig,
    build=_build,
    parameters=PARAMETERS,
    renamed={"dropout_linear": "dropout"},
    configure=_configure,
    words=lambda config: list(_words(config)),
    dropout_words=_dropout_words,
    short=lambda config: "-".join(map(str, config.channels)),
)
