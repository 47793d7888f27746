"""Scoring a network on examples: plain cross entropy and error, unaugmented, without dropout.

Shapes: N examples, K classes, B examples a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from data.examples import Examples, to_unit
from search.training.epoch import Score

# Small enough for the activations of a small CNN to stay in a CPU's caches; on a GPU large
# enough to fill it.
BATCH_SIZE = {"cpu": 256, "cuda": 2000}


@torch.inference_mode()
def logits(
    model: nn.Module, images_NCHW: torch.Tensor, mean_C: torch.Tensor, std_C: torch.Tensor
) -> torch.Tensor:
    """Logits (N, K), float32, of uint8 images on the model's device. Leaves the model as it was."""
    was_training = model.training
    model.eval()
    device = images_NCHW.device
    parts = []
    for images in torch.split(images_NCHW, BATCH_SIZE[device.type]):
        with autocast(device):
            parts.append(model(normalise(to_unit(images), mean_C, std_C)).float())
    model.train(was_training)
    return torch.cat(parts)


def evaluate(
    model: nn.Module, examples: Examples, mean_C: torch.Tensor, std_C: torch.Tensor
) -> Score:
    """Score on all examples, NaN without any; synchronises with the device once, at the end."""
    if len(examples) == 0:
        return Score(loss=math.nan, error=math.nan)
    return score(logits(model, examples.images_NCHW, mean_C, std_C), examples.labels_N)


def score(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> Score:
    loss, error = loss_and_error(logits_NK, labels_N).tolist()
    return Score(loss=loss, error=error)


def loss_and_error(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """float32 (2,), on the examples' device: nothing waits for it."""
    loss = F.cross_entropy(logits_NK, labels_N)
    wrong = (logits_NK.argmax(1) != labels_N).float().mean()
    return torch.stack((loss, wrong))


def confusion(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """Examples counted by class, int64 (K, K): rows the true one, columns the predicted one.

    On their device; nothing waits for it.
    """
    classes = logits_NK.shape[1]
    cells_N = labels_N * classes + logits_NK.argmax(1)
    counts = labels_N.new_zeros(classes**2).index_add_(0, cells_N, torch.ones_like(labels_N))
    return counts.view(classes, classes)


def normalise(images_BCHW: torch.Tensor, mean_C: torch.Tensor, std_C: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance a channel, over the training set."""
    scale_C = 1 / std_C
    shift_C = -mean_C * scale_C
    return torch.addcmul(shift_C.view(1, -1, 1, 1), images_BCHW, scale_C.view(1, -1, 1, 1)).to(
        memory_format=torch.channels_last
    )


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it: on GPUs, and on CPUs with AVX512-BF16 or AMX.

    Weights, their updates and the loss stay float32. One thread of an AMD EPYC (AVX512-BF16, 3
    alternating runs) trained 1.4 to 1.7 times as fast with it, and losses after eight epochs on
    Fashion-MNIST differed by less than those of two seeds. CPUs without it only imitate it, slowly.
    """
    enabled = device.type == "cuda" or _cpu_computes_in_bfloat16()
    # Without a cache of cast weights: each is cast once a step anyway, and graphs must not keep it.
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


@functools.cache
def _cpu_computes_in_bfloat16() -> bool:
    found = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public names
    return any(getattr(torch.cpu, name, bool)() for name in found)
