"""Asynchronous successive halving: only the best of the trials so far continue from a rung.

At a rung (the partial-epoch validation inside the first epoch, then epochs 1, 2, 4, 8, ...) a trial
is compared with every trial of the study that has reached it (Li et al. 2020, "A system for
massively parallel hyperparameter tuning", in its stopping variant). Optuna's default compares only
with complete trials, ignoring the pruned ones, which hold most of what is known about the early
epochs; Hyperband splits fifty trials into brackets that do not learn from each other.

The price: trials that start slowly but would end well, such as strongly regularised ones, are
stopped too. If there is time, use `pruner = "none"` or more trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from search.spec.recipe import PARTIAL_EPOCH

# The share of the trials that continues from a rung. Later rungs are stricter: they have seen more,
# and each trial that continues costs more.
SHARES = {0: 1 / 2, 1: 1 / 3, 2: 1 / 4}
LATER_SHARE = 1 / 5
RIVALS = 2  # values that a rung must hold before it stops any trial
# The share that continues in studies of 50 trials: higher, because early trials have few rivals.
TYPICAL_SHARE = 2 / 3
PROMOTED = 1 / 3  # if trials pause: a guess for those that begin once the budget is spent


def rungs(epochs: int) -> list[int]:
    """Epochs after which trials of `epochs` epochs are compared; none is stopped after the last."""
    return [epoch for epoch in range(epochs) if epoch & (epoch - 1) == 0]


def rule(epoch: int, loss: float, rivals: Sequence[float]) -> bool:
    """Whether to stop a trial: it has enough rivals at its rung and is not among the best there.

    Args:
        loss: its lowest value so far.
        rivals: the other trials' lowest values when they were at the same rung.
    """
    if not math.isfinite(loss):
        return True
    others = [rival for rival in rivals if math.isfinite(rival)]
    go_on = math.ceil((len(others) + 1) * SHARES.get(epoch, LATER_SHARE))
    return len(others) >= RIVALS and sum(rival < loss for rival in others) >= go_on


def expected_epochs(epochs: int, share: float = TYPICAL_SHARE) -> float:
    """How many of its epochs a trial trains on average, if this share continues from a rung."""
    ends = [rung or PARTIAL_EPOCH for rung in rungs(epochs)] + [epochs]
    steps = [after - before for before, after in zip([0.0, *ends], ends, strict=False)]
    return sum(step * share**passed for passed, step in enumerate(steps))
