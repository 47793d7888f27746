"""What trials are compared by: the number that a study minimises.

A study file chooses it: `[study] objective = "validation_error"`. It is what Optuna gets, what
`patience` watches, and what decides which trials continue, which is best, and at which epoch
`finalize` stops. Studies from before there was a choice have `validation_loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SIZES = ("parameters", "multiply_adds")  # of a network, which a study may also minimise
CALIBRATED_LOSS, TEMPERATURE = "calibrated_loss", "temperature"  # names in an epoch's metrics
DEFAULT_OBJECTIVE, RAW_LOSS = "calibrated_validation_loss", "validation_loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """One number of an epoch; lower is better."""

    description: str  # one line
    label: str  # its name in tables and on axes
    unit: str  # empty for a share
    of: Callable[[Any], float]  # from an epoch (`search.training.epoch.Epoch`); NaN: not measured

    @property
    def word(self) -> str:
        """The short label, for places where it is clear which images are meant."""
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
        description="share of wrong predictions; coarse, so many trials tie",
        label="validation error",
        unit="",
        of=lambda epoch: epoch.validation_error,
    ),
}
