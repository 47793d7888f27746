"""The first convolution with its batch norm and max pooling in one pass, for CPUs.

The full-size maps are the largest of the network, and each of the three writes and reads them
again. Here they are never normalised, and never written as one. What makes that possible:

- The images have few channels, so a map's mean and variance follow from those of the images'
  patches: mean = w·E[p], variance = w'·Cov[p]·w. Batch norm thus becomes part of the convolution's
  weights before it runs, in training as it does in evaluation.
- Each 2x2 pooling needs four convolutions of the same window of (k + 1) x (k + 1) pixels: four
  matrix products, and the largest of the four.

Shapes: N images, C channels, H x W pixels, k x k kernels, O maps; h x w after the pooling.
M = N·h·w windows of K = (k + 1)²·C + 1 values, the last of them a one; P = 4 places in each for a
patch of Q = k²·C values, L = Q + 1 with the one.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import BatchNorm, Convolution, Layer, Pool

# Values: 4x4 pixels of grey, for a 3x3 kernel. With 16 and 32 maps, in bfloat16 and float32, on one
# thread, forward and backward were 1.4 to 2.1 times as fast as the modules; 4x4 of colour 0.7 to
# 1.3 times, 5x5 and 7x7 kernels on grey 0.9 to 1.4 and 0.6 to 1.0 times.
LARGEST_WINDOW = 16


def stem_length(layers: Sequence[Layer]) -> int:
    """How many of the first layers can be computed as one; 0 for none."""
    match layers:
        case [Convolution() as convolution, BatchNorm(), Pool(kind="max"), *_]:
            length = 3
        case [Convolution() as convolution, Pool(kind="max"), *_]:
            length = 2
        case _:
            return 0
    window = (convolution.kernel + 1) ** 2 * convolution.input[0]
    even = all(side % 2 == 0 for side in convolution.output[1:])  # else pooling drops a row
    return length if convolution.stride == 1 and even and window <= LARGEST_WINDOW else 0


class Network(nn.Sequential):
    """Modules one after another; on a CPU the first `stem_length` of them are computed as one.

    They are called one by one while somebody hooks into one of them, and where the network is
    compiled or exported.
    """

    def __init__(self, modules: OrderedDict[str, nn.Module], stem_length: int) -> None:
        super().__init__(modules)
        self.stem_length = stem_length

    def forward(self, input: Tensor) -> Tensor:  # named as nn.Sequential names it
        modules = list(self)
        stem, rest = modules[: self.stem_length], modules[self.stem_length :]
        if stem and input.device.type == "cpu" and not _must_be_called(stem):
            norm = stem[1] if len(stem) == 3 else None
            output = pooled_convolution(input, stem[0], norm)  # type: ignore[arg-type]
        else:
            output, rest = input, modules
        for module in rest:
            output = module(output)
        return output


def _must_be_called(stem: Sequence[nn.Module]) -> bool:
    return torch.compiler.is_compiling() or any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in stem
    )


def pooled_convolution(
    images_NCHW: Tensor, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None
) -> Tensor:
    """2x2 max pooling of the normalised convolution: (N, O, h, w), channels_last.

    Its sides must be even before the pooling. In autocast's precision, statistics in float32 all
    the same. Updates the running statistics in training, as the module would.
    """
    dtype = images_NCHW.dtype
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    kernel, channels = convolution.kernel_size[0], convolution.in_channels
    with torch.autocast("cpu", enabled=False):
        windows_KNhw = _windows(images_NCHW, kernel, int(convolution.padding[0]))
        windows_KM = windows_KNhw.flatten(1)
        weight_OQ = convolution.weight.permute(0, 2, 3, 1).flatten(1)
        shift_O = convolution.bias
        if shift_O is None:
            shift_O = weight_OQ.new_zeros(len(weight_OQ))
        if norm is not None:
            if norm.training:
                places_PQ = _places(kernel, channels)[:, :-1]
                mean_O, variance_O = _statistics(windows_KM, weight_OQ, shift_O, places_PQ)
                _update(norm, mean_O.detach(), variance_O.detach(), 4 * windows_KM.shape[1])
            else:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                mean_O, variance_O = norm.running_mean, norm.running_var
            scale_O = norm.weight * torch.rsqrt(variance_O + norm.eps)
            weight_OQ = weight_OQ * scale_O[:, None]
            shift_O = norm.bias + scale_O * (shift_O - mean_O)
        weight_OL = torch.cat((weight_OQ, shift_O[:, None]), 1)
        highest_MO = _Highest.apply(
            windows_KM.to(dtype), weight_OL.to(dtype), _places(kernel, channels)
        )
    highest_NhwO: Tensor = highest_MO.view(*windows_KNhw.shape[1:], -1)
    return highest_NhwO.permute(0, 3, 1, 2)


def _windows(images_NCHW: Tensor, kernel: int, padding: int) -> Tensor:
    """Each pooling's pixels by row, column and channel, last a one for the shift: (K, N, h, w)."""
    padded_NCHW = F.pad(images_NCHW, (padding,) * 4)
    height, width = (side - kernel + 1 for side in padded_NCHW.shape[2:])
    values_Nhw = [
        padded_NCHW[:, channel, row : row + height : 2, column : column + width : 2]
        for row in range(kernel + 1)
        for column in range(kernel + 1)
        for channel in range(padded_NCHW.shape[1])
    ]
    return torch.stack([*values_Nhw, torch.ones_like(values_Nhw[0])])


@functools.cache
@torch.inference_mode(False)  # kept, so it must serve in training too
def _places(kernel: int, channels: int) -> Tensor:
    """Where in a window each place's patch has its values, and its one: (P, L)."""
    window = torch.arange((kernel + 1) ** 2 * channels).view(kernel + 1, kernel + 1, channels)
    patches_PQ = [
        window[down : down + kernel, right : right + kernel].flatten()
        for down in (0, 1)
        for right in (0, 1)
    ]
    return F.pad(torch.stack(patches_PQ), (0, 1), value=window.numel())


def _statistics(
    windows_KM: Tensor, weight_OQ: Tensor, shift_O: Tensor, places_PQ: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each map over this batch, (O,) both."""
    moments_KK = windows_KM @ windows_KM.t() / windows_KM.shape[1]  # in the last row the means
    mean_Q = moments_KK[-1][places_PQ].mean(0)
    squares_QQ = moments_KK[places_PQ[:, :, None], places_PQ[:, None, :]].mean(0)
    covariance_QQ = squares_QQ - mean_Q.outer(mean_Q)
    variance_O = (weight_OQ @ covariance_QQ * weight_OQ).sum(1)
    return weight_OQ @ mean_Q + shift_O, variance_O.clamp_min(0)  # rounding could make it negative


@torch.no_grad()
def _update(norm: nn.BatchNorm2d, mean_O: Tensor, variance_O: Tensor, count: int) -> None:
    """The running statistics, as `nn.BatchNorm2d` keeps them."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean_O, norm.momentum)
    norm.running_var.lerp_(variance_O * (count / (count - 1)), norm.momentum)


class _Highest(torch.autograd.Function):
    """Windows (K, M), weights (O, L) and their places (P, L) to the highest of the four, (M, O).

    Where several are equally high the first one gets the gradient, as with `nn.MaxPool2d`.
    """

    @staticmethod
    def forward(ctx: Any, windows_KM: Tensor, weight_OL: Tensor, places_PL: Tensor) -> Tensor:
        weights_PKO = weight_OL.new_zeros(len(places_PL), len(windows_KM), len(weight_OL))
        weights_PKO[torch.arange(len(places_PL))[:, None], places_PL] = weight_OL.t()
        first, second, third, fourth = (windows_KM.t() @ weight_KO for weight_KO in weights_PKO)
        upper, lower = torch.maximum(first, second), torch.maximum(third, fourth)
        highest = torch.maximum(upper, lower)
        if any(ctx.needs_input_grad):
            # By how much the latter exceeds the former; in place, as none is needed any more.
            differences = lower.sub_(upper), second.sub_(first), fourth.sub_(third)
            ctx.save_for_backward(windows_KM, weights_PKO, places_PL, *differences)
        return highest

    @staticmethod
    def backward(ctx: Any, gradient_MO: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        windows_KM, weights_PKO, places_PL, lower_wins, second_wins, fourth_wins = ctx.saved_tensors
        upper, lower = _divide(gradient_MO, lower_wins)
        parts_PMO = (*_divide(upper, second_wins), *_divide(lower, fourth_wins))
        of_windows = of_weights = None
        if ctx.needs_input_grad[0]:
            pairs = zip(weights_PKO, parts_PMO, strict=True)
            of_windows = torch.stack([weight_KO @ part_MO.t() for weight_KO, part_MO in pairs]).sum(
                0
            )
        if ctx.needs_input_grad[1]:
            products_PKO = torch.stack([windows_KM @ part_MO for part_MO in parts_PMO])
            placed_PLO = products_PKO[torch.arange(len(places_PL))[:, None], places_PL]
            of_weights = placed_PLO.sum(0).t()
        return of_windows, of_weights, None


def _divide(gradient: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient where the difference is not positive, and where it is; zeros elsewhere."""
    second = torch.ops.aten.threshold_backward(gradient, difference, 0)
    return gradient - second, second
