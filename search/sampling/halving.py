"""Asynchronous successive halving: only the best of the trials so far go on from a rung.

At a rung (the partial-epoch validation inside the first epoch, then epochs 1, 2, 4, 8, ...) a trial
is compared with every trial of the study that has come so far (Li et al. 2020, "A system for
massively parallel hyperparameter tuning", in its stopping variant). Optuna's default compares with
complete trials only, so that pruned ones, most of what is known of the early epochs, count for
nothing; Hyperband splits fifty trials into brackets that do not learn from each other.

The price: trials that start slowly and would end well, such as strongly regularised ones, are
stopped too; where there is time, `pruner = "none"`, or more trials, is the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from search.spec.recipe import PARTIAL_EPOCH

# Which share of the trials goes on from a rung: the more it has seen, and the more a further trial
# costs there, the stricter it is.
SHARES = {0: 1 / 2, 1: 1 / 3, 2: 1 / 4}
LATER_SHARE = 1 / 5
RIVALS = 2  # values that a rung must hold before it stops anyone
# What goes on from a rung in studies of 50 trials: more, since early trials have few rivals.
TYPICAL_SHARE = 2 / 3
PROMOTED = 1 / 3  # where trials pause: a guess for those that begin once the budget is spent


def rungs(epochs: int) -> list[int]:
    """Epochs after which trials of so many epochs are compared; after the last none is stopped."""
    return [epoch for epoch in range(epochs) if epoch & (epoch - 1) == 0]


def rule(epoch: int, loss: float, rivals: Sequence[float]) -> bool:
    """Whether to stop a trial: it is not among the best of its rung, where it has enough rivals.

    Args:
        loss: its lowest value so far.
        rivals: the other trials' lowest ones when they were at the same rung.
    """
    if not math.isfinite(loss):
        return True
    others = [rival for rival in rivals if math.isfinite(rival)]
    go_on = math.ceil((len(others) + 1) * SHARES.get(epoch, LATER_SHARE))
    return len(others) >= RIVALS and sum(rival < loss for rival in others) >= go_on


def expected_epochs(epochs: int, share: float = TYPICAL_SHARE) -> float:
    """How many of its epochs a trial trains on average, if such a share goes on from a rung."""
    ends = [rung or PARTIAL_EPOCH for rung in rungs(epochs)] + [epochs]
    steps = [after - before for before, after in zip([0.0, *ends], ends, strict=False)]
    return sum(step * share**passed for passed, step in enumerate(steps))
