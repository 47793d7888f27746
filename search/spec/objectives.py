"""What trials are compared by: the number that a study lowers.

A study file chooses it: `[study] objective = "validation_error"`. It is what is told to Optuna,
what `patience` watches, and what decides which trials go on, which is best, and at which epoch
`finalize` stops. Studies of before there was a choice have `validation_loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SIZES = ("parameters", "multiply_adds")  # of a network, which a study may lower beside
CALIBRATED_LOSS, TEMPERATURE = "calibrated_loss", "temperature"  # names in an epoch's metrics
DEFAULT_OBJECTIVE, RAW_LOSS = "calibrated_validation_loss", "validation_loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """One number of an epoch, the lower the better.

    Attributes:
        description: one line.
        label: what it is called in tables and on axes.
        unit: in which it is measured; empty for a share.
        of: an epoch's (`search.training.epoch.Epoch`); NaN where it was not measured.
    """

    description: str
    label: str
    unit: str
    of: Callable[[Any], float]

    @property
    def word(self) -> str:
        """The label in short, where it goes without saying which images it is of."""
        return self.label.replace("validation ", "")


OBJECTIVES: dict[str, Objective] = {
    DEFAULT_OBJECTIVE: Objective(
        description="cross entropy after the logits are divided by the best single temperature: "
        "how well classes are told apart, whatever the confidence",
        label="calibrated validation loss",
        unit="cross entropy, nats",
        of=lambda epoch: epoch.metrics.get(CALIBRATED_LOSS, float("nan")),
    ),
    RAW_LOSS: Objective(
        description="cross entropy of the network as it is",
        label="validation loss",
        unit="cross entropy, nats",
        of=lambda epoch: epoch.validation_loss,
    ),
    "validation_error": Objective(
        description="share of wrong predictions; coarse, so that many trials are equal",
        label="validation error",
        unit="",
        of=lambda epoch: epoch.validation_error,
    ),
}
