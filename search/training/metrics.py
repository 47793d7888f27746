"""The registry of metrics: what can be measured besides a network's loss and error.

A study file names those to record each epoch: `[study] metrics = ["macro_f1"]`. To add one, enter
it in METRICS, if need be in a file that a study names, see `search.spec.extensions`.

Shapes: N examples, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.spec.objectives import CALIBRATED_LOSS

if TYPE_CHECKING:
    import torch

HIGHEST_TEMPERATURE = 20.0  # the lowest is 1 / 20
CALIBRATION_BINS = 15
MOST_DOUBLES = 2**22  # at a time; 500 000 examples of 1000 classes would need 4 GB, several times
BISECTIONS = 24  # the temperature to within 1e-6 of itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One number measured on the unaugmented validation examples.

    Attributes:
        description: one line.
        compute: maps float32 logits (N, K) and int64 labels (N,), in main memory, to the number.
    """

    description: str
    higher_is_better: bool
    compute: Callable[[torch.Tensor, torch.Tensor], float]


def _macro_f1(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> float:
    from sklearn.metrics import f1_score  # a second to import

    predicted_N = logits_NK.argmax(1).numpy()
    return float(f1_score(labels_N.numpy(), predicted_N, average="macro", zero_division=0))


def fit_temperature(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """The temperature T for which `logits / T` has the lowest cross entropy.

    A float32 scalar that calibrates the network: its confidence then fits its errors (Guo et al.
    2017, "On calibration of modern neural networks", arXiv:1706.04599). It is within a factor of
    HIGHEST_TEMPERATURE of 1, and is 1 if the logits are not all finite.

    The loss is convex in 1 / T, so the sign of its slope says on which side the minimum lies. The
    work does not depend on the values, and nothing waits for it, so a CUDA graph can record it.
    """
    import torch

    # Each example's slope is the softmax-weighted mean of the gaps to the correct class's logit.
    # Ten times as fast as softmax(1) on a CPU: summed over the few classes, example by example.
    gaps_KN = (logits_NK - logits_NK.gather(1, labels_N[:, None])).T.contiguous()
    below_KN = gaps_KN - gaps_KN.amax(0)
    exponent, step = gaps_KN.new_zeros(()), math.log(HIGHEST_TEMPERATURE)  # 1 / T = e^exponent
    for _ in range(BISECTIONS):
        step /= 2
        weights_KN = (below_KN * exponent.exp()).exp()
        slopes_N = (weights_KN * gaps_KN).sum(0) / weights_KN.sum(0)
        exponent = exponent - step * slopes_N.sum().sign()
    exponent = torch.where(gaps_KN.isfinite().all(), exponent, torch.zeros_like(exponent))
    return exponent.neg().exp()


def loss_at(
    logits_NK: torch.Tensor, labels_N: torch.Tensor, temperature: torch.Tensor | float
) -> torch.Tensor:
    """Mean cross entropy of `logits / temperature`, in nats; nothing waits for it."""
    import torch
    import torch.nn.functional as F

    rows = max(1, MOST_DOUBLES // logits_NK.shape[1])
    means = [
        F.cross_entropy(some_NK.double() / temperature, some_N) * (len(some_N) / len(labels_N))
        for some_NK, some_N in zip(
            torch.split(logits_NK, rows), torch.split(labels_N, rows), strict=True
        )
    ]
    return torch.stack(means).sum()


def reliability(probabilities_NK: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """For each bin of confidence, of equal width: number of examples, sum of their confidences,
    number correct, float64 (CALIBRATION_BINS, 3)."""
    import torch

    confidences_N, predicted_N = probabilities_NK.max(1)
    confidences_N = confidences_N.double()
    bins_N = (confidences_N * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    right_N = (predicted_N == labels_N).double()
    found_N3 = torch.stack([torch.ones_like(right_N), confidences_N, right_N], dim=1)
    return found_N3.new_zeros(CALIBRATION_BINS, 3).index_add_(0, bins_N, found_N3)


def calibration_error(bins_B3: torch.Tensor) -> float:
    """The expected calibration error, from the bins of `reliability` (Guo et al. 2017): the mean
    difference between confidence and accuracy, in [0, 1]."""
    counts_B, confidences_B, right_B = bins_B3.T
    return float((right_B - confidences_B).abs().sum() / counts_B.sum())


def _error(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> float:
    return float((logits_NK.argmax(1) != labels_N).float().mean())


METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        description="share of correct predictions",
        higher_is_better=True,
        compute=lambda logits_NK, labels_N: 1 - _error(logits_NK, labels_N),
    ),
    "error": Metric(
        description="share of wrong predictions", higher_is_better=False, compute=_error
    ),
    "macro_f1": Metric(
        description="F1 score of each class, averaged over the classes",
        higher_is_better=True,
        compute=_macro_f1,
    ),
    CALIBRATED_LOSS: Metric(  # how well classes are told apart, whatever the confidence
        description="cross entropy in nats at the best single temperature",
        higher_is_better=False,
        compute=lambda logits_NK, labels_N: float(
            loss_at(logits_NK, labels_N, fit_temperature(logits_NK, labels_N))
        ),
    ),
}
