"""How fast a GPU could train at best: the limits of its arithmetic and its memory.

Both rates are measured, not taken from a data sheet: by multiplying large matrices and by copying
a large block. The bound for a training step is the slower of

    FLOPs / matmul rate: multiply-adds x 2, forward once and backward twice (for the gradients of
        the inputs and of the weights);
    bytes / copy rate: each output of a convolution, batch norm, pooling or linear layer is written
        and read in the forward pass, and read again in the backward pass while its gradient is
        written and read, five times in all (activations, dropout and flattening count as fused);
        weight, gradient and Adam's two moments, float32, are each read and written once per step.

There is no bound for CPUs: such networks stay in the caches, whose speed no copy measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch

from models import ConvNetConfig
from models.summary import anatomy

PASSES = 5
STORED = {"BatchNorm1d", "BatchNorm2d", "Conv2d", "Linear", "MaxPool2d", "AvgPool2d"}
VALUE_BYTES = 2
ADAM_BYTES = 8 * 4  # per parameter and step
REPEATS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """flops: of matrix products, per second; bytes: read and written by a copy, per second."""

    flops: float
    bytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Training on one image: floating point operations, and bytes read and written."""

    flops: float
    bytes: float

    def seconds(self, rates: Rates) -> float:
        """The shortest possible time at these rates."""
        return max(self.flops / rates.flops, self.bytes / rates.bytes)


def training_cost(
    architecture: ConvNetConfig,
    image_shape: tuple[int, int, int],
    classes: int,
    *,
    batch_size: int,
) -> Cost:
    """What one image of a batch costs with bfloat16 values."""
    layers = anatomy(architecture, image_shape, classes)
    values = sum(prod(layer.output) for layer in layers if layer.kind in STORED)
    parameters = sum(layer.parameters for layer in layers)
    return Cost(
        flops=3 * 2 * sum(layer.multiply_adds for layer in layers),
        bytes=PASSES * VALUE_BYTES * values + ADAM_BYTES * parameters / batch_size,
    )


def measured_rates(device: torch.device, *, side: int = 8192, block: int = 2**30) -> Rates:
    """The device's current rates, each the best of a few repetitions; takes moments on a GPU.

    Args:
        side: size of the square bfloat16 matrices.
        block: bytes to copy.
    """
    left, right = torch.randn(2, side, side, device=device).bfloat16()
    out = torch.empty_like(left)
    source = torch.zeros(block, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Rates(
        flops=2 * side**3 / _best_seconds(lambda: torch.mm(left, right, out=out), device),
        bytes=2 * block / _best_seconds(lambda: target.copy_(source), device),
    )


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best
