"""What training reports and raises. Imports no torch, so code that only shows it need not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """The report on one epoch.

    Attributes:
        epoch: 1 for the first; 0 is the partial-epoch validation inside the first epoch.
        train_loss, train_error: means over the epoch's steps, while the weights changed, on
            augmented images and with dropout; cross entropy in nats, without label smoothing.
        validation_loss, validation_error: afterwards, on unaugmented images, without dropout; for
            epoch 0 on `Task.early_validation` only. NaN without validation images.
        learning_rate: at the last step.
        seconds, images: time spent and images trained on since the last report (validation
            included), without the time in which other trainings of the process ran.
        metrics: further metrics on the validation images, by name: `temperature`, the best divisor
            for the logits, `calibrated_loss`, the loss with it, and those that the study names from
            `search.training.metrics.METRICS`. Empty without validation images.
    """

    epoch: int
    train_loss: float
    train_error: float
    validation_loss: float
    validation_error: float
    learning_rate: float
    seconds: float
    images: int
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """loss: mean cross entropy in nats; error: share of wrong predictions, in [0, 1]."""

    loss: float
    error: float

    @property
    def accuracy(self) -> float:
        return 1 - self.error


class StoppedError(Exception):
    """The training was asked to stop between two steps; its last `state()` is still valid."""


class DeviceLostError(ValueError):
    """This process can no longer use its GPU; the work in it is as good as killed. One line."""


class BundleError(ValueError):
    """A folder without a usable network; names the file and the remedy."""


class RepeatError(ValueError):
    """A final training that cannot be completed; says why and what to do."""


class WeightsError(RepeatError):
    """Weights that are unavailable or do not fit: one line, with the remedy."""


def derived_seed(*parts: int | str) -> int:
    """A seed in [0, 2**63) that depends only on the parts; different parts, different seeds."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
