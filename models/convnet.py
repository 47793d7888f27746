"""Convolutional networks: convolutions with pooling between them, then linear layers.

`convnet_build` makes the modules; here are the configuration and its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from models.checks import MOST_LAYERS, ArchitectureError, shown
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

if TYPE_CHECKING:
    from torch import nn

GROWTH_STAGES = 2  # the width doubles after each of the first two convolutions, then stays
PARAMETERS = {
    "depth": count(3, "number of convolutions", most=MOST_LAYERS),
    "width": count(32, "channels of the first; doubled after the first two"),
    "channels": counts((), "of each convolution, in place of depth, width"),
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
        description="convolutions with 2x2 pooling behind; auto: as many as fit",
        least=1,
    ),
    "residual": Parameter(kinds=(bool,), default=False, description="shortcuts around each two"),
    "head": choice(("flatten", "global"), "flatten", "what the linear layers see"),
    "dropout_conv": number(0.0, "rate after the last convolution", below=1),
    **LINEAR_PARAMETERS,
}
RENAMED = {"dropout_linear": "dropout"}


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
    padding: int | str | tuple[int, ...] = "same"
    batch_norm: bool | tuple[int, ...] = False
    batch_norm_place: str = "conv"
    activation: str = "relu"
    pool: str = "max"
    pool_after: str | tuple[int, ...] = "auto"
    residual: bool = False
    head: str = "flatten"
    hidden: tuple[int, ...] = ()
    dropout_conv: float = 0.0
    dropout_linear: float = 0.0

    def __post_init__(self) -> None:
        values = self.values()
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
        for place, kernel in zip(self.numbers, self.kernels, strict=True):
            if self.padding == "same" and kernel % 2 == 0:
                raise ArchitectureError(
                    f"padding 'same' needs odd kernels, but got {kernel} for convolution "
                    f"{place}; use an odd kernel size or give the padding as a number"
                )

    @property
    def numbers(self) -> range:
        """Of the convolutions: 1 up."""
        return range(1, len(self.channels) + 1)

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
        return (int(self.padding),) * len(self.channels)


def _build(config: ConvNetConfig, image_shape: ImageShape, classes: int) -> nn.Module:
    from models.convnet_build import build

    return build(config, image_shape, classes)


def _configure(values: Mapping[str, Any]) -> ConvNetConfig:
    check_fields({name: values[name] for name in ("depth", "width")}, PARAMETERS)
    grown = tuple(
        values["width"] * 2 ** min(layer, GROWTH_STAGES) for layer in range(values["depth"])
    )
    named = {
        field.name: values[RENAMED.get(field.name, field.name)] for field in fields(ConvNetConfig)
    }
    return ConvNetConfig(**named | {"channels": values["channels"] or grown})


FAMILY = Family(
    description="convolutions with pooling between them, then linear layers",
    config=ConvNetConfig,
    build=_build,
    parameters=PARAMETERS,
    renamed=RENAMED,
    configure=_configure,
)
