"""Scoring a network on examples: plain cross entropy and error, unaugmented, without dropout.

Shapes: N examples, K classes, B examples a batch, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from data.batches import to_unit
from data.datasets import Examples

# Small enough for the activations of a small CNN to stay in a CPU's caches; on a GPU large
# enough to fill it.
BATCH_SIZE = {"cpu": 256, "cuda": 2000}


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """loss: mean cross entropy in nats; error: share of wrong predictions, in [0, 1]."""

    loss: float
    error: float

    @property
    def accuracy(self) -> float:
        return 1 - self.error


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
    loss = F.cross_entropy(logits_NK, labels_N)
    wrong = (logits_NK.argmax(1) != labels_N).float().mean()
    loss_value, error_value = torch.stack((loss, wrong)).tolist()
    return Score(loss=loss_value, error=error_value)


def normalise(images_BCHW: torch.Tensor, mean_C: torch.Tensor, std_C: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance a channel, over the training set."""
    scale_C = 1 / std_C
    shift_C = -mean_C * scale_C
    return torch.addcmul(shift_C.view(1, -1, 1, 1), images_BCHW, scale_C.view(1, -1, 1, 1)).to(
        memory_format=torch.channels_last
    )


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 on GPUs, where it doubles the speed; float32 on CPUs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
