"""Temperature scaling: one number that makes a network's confidence fit its errors.

Cross entropy after the best temperature says how well classes are told apart, and leaves out how
confident the network is, which one number mends afterwards (Guo et al. 2017, "On calibration of
modern neural networks", arXiv:1706.04599; Berta et al. 2025, "Rethinking early stopping: refine,
then calibrate", arXiv:2501.19195).

Shapes: N examples, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

TEMPERATURES = (0.05, 20.0)
_STEPS = 50
_EXACT = 1e-6  # of the logarithm of the temperature


def fit_temperature(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> float:
    """The temperature T for which `logits / T` has the lowest cross entropy, within TEMPERATURES.

    The loss is convex in 1 / T; its slope is halved into by bisection, so nothing can overshoot.
    1 where the logits are not all finite.
    """
    if not bool(torch.isfinite(logits_NK).all()):
        return 1.0
    scores_NK = logits_NK.double()
    right_N = scores_NK.gather(1, labels_N[:, None])[:, 0].mean()
    low, high = (torch.tensor(end, dtype=torch.float64).log() for end in TEMPERATURES)
    for _ in range(_STEPS):
        if float(high - low) < _EXACT:
            break
        middle = (low + high) / 2
        # d loss / d (1/T) = mean over examples of (expected logit - logit of the true class)
        expected = (F.softmax(scores_NK / middle.exp(), 1) * scores_NK).sum(1).mean()
        if float(expected - right_N) > 0:
            low = middle  # too confident: 1/T is to fall
        else:
            high = middle
    return float(((low + high) / 2).exp())


def loss_at(logits_NK: torch.Tensor, labels_N: torch.Tensor, temperature: float) -> float:
    """Mean cross entropy of `logits / temperature`, in nats."""
    return float(F.cross_entropy(logits_NK.double() / temperature, labels_N))
