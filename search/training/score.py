"""How well a network does. Loads no torch, so that what only reports scores need not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """loss: mean cross entropy in nats; error: share of wrong predictions, in [0, 1]."""

    loss: float
    error: float

    @property
    def accuracy(self) -> float:
        return 1 - self.error
