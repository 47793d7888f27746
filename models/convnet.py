"""Convolutional networks: convolutions with pooling between them, then linear layers."""

from dataclasses import dataclass
from typing import Literal, get_args

from models.checks import (
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
from models.layers import ActivationName, PoolName

NormPlace = Literal["conv", "pool"]
HeadName = Literal["flatten", "global"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNetConfig:
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
        leave a map of 3x3 or more, spread evenly (`models.pooling`), however deep the network.
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
