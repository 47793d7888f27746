"""Asynchronous successive halving: which trials go on, and in which order all of them stand.

At a rung (the early look inside the first epoch, then epochs 1, 2, 4, 8, ...) a trial is compared
with every trial of the study that has come so far, and goes on if it is among the best (Li et al.
2020, "A system for massively parallel hyperparameter tuning", in its stopping variant).

Shapes: T trials, R rungs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.spec.space import OVERRIDES
from search.store.history import Standing

# Which share of the trials goes on from a rung: the more it has seen, and the more a further trial
# costs there, the stricter it is.
SHARES = {0: 1 / 2, 1: 1 / 3, 2: 1 / 4}
LATER_SHARE = 1 / 5
RIVALS = 2  # values that a rung must hold before it stops anyone


def is_rung(epoch: int) -> bool:
    """Whether trials are compared after this epoch: the early look (0), then 1, 2, 4, 8, ..."""
    return epoch & (epoch - 1) == 0


def rungs(epochs: int) -> list[int]:
    """Those of a study whose trials train for so many epochs; after the last nothing is stopped."""
    return [epoch for epoch in range(epochs) if is_rung(epoch)]


def share_going_on(epoch: int) -> float:
    """Of the trials at a rung."""
    return SHARES.get(epoch, LATER_SHARE)


def worth_continuing(epoch: int, value: float, rivals: Iterable[float]) -> bool:
    """Whether a validation loss is good enough to go on from a rung.

    Args:
        value: the trial's lowest validation loss so far.
        rivals: the other trials' lowest ones when they were at the same rung.
    """
    others = [rival for rival in rivals if math.isfinite(rival)]
    better = sum(rival < value for rival in others)
    return stands_well(epoch, Standing(loss=value, rivals=len(others), better=better))


def stands_well(epoch: int, standing: Standing) -> bool:
    """Whether a trial is among the best of its rung, or has too few rivals there to tell."""
    if not math.isfinite(standing.loss):
        return False
    going_on = math.ceil((standing.rivals + 1) * share_going_on(epoch))
    return standing.rivals < RIVALS or standing.better < going_on


class HalvingPruner(optuna.pruners.BasePruner):
    """Stops a trial at a rung where it is not among the best of the trials so far.

    Args:
        standing_at: of a trial (by its id) after an epoch. Our own table answers that with one
            query of an index, where Optuna's pruners read every trial of the study each time.
    """

    def __init__(self, standing_at: Callable[[int, int], Standing | None]) -> None:
        self._standing_at = standing_at

    def stops(self, study: optuna.Study, trial_id: int, epoch: int) -> bool:
        """Whether to stop the trial after this epoch, which was reported."""
        if not is_rung(epoch):
            return False
        standing = self._standing_at(trial_id, epoch)
        if standing is None or stands_well(epoch, standing):
            return False
        # The baseline is what everything is compared with: it runs to its end.
        return OVERRIDES not in study._storage.get_trial_user_attrs(trial_id)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        epoch = trial.last_step
        return epoch is not None and self.stops(study, trial._trial_id, epoch)


def losses_at_rungs(trial: FrozenTrial, at: Sequence[int]) -> list[float]:
    """A trial's lowest loss at each rung and, last, at its end; NaN where it did not come so far.

    One that was completed has come to its end, however few epochs its patience took.
    """
    completed = trial.state == TrialState.COMPLETE
    reports = {
        step: math.inf if math.isnan(loss) else loss
        for step, loss in trial.intermediate_values.items()
    }
    last = max(reports, default=-1)
    found = [
        min(loss for step, loss in reports.items() if step <= rung)
        if reports and (completed or rung <= last) and min(reports) <= rung
        else math.nan
        for rung in at
    ]
    end = trial.value if completed and trial.value is not None else math.nan
    return [*found, end]


def best_first(losses_TR: NDArray[np.float64], at: Sequence[int]) -> NDArray[np.int64]:
    """Rows of trials in the order that the rungs give them, had all come there at once.

    What matters is the last rung at which a trial was compared, then its loss there. So a trial
    that went on for want of rivals, or as the baseline, stands no better than it would now.

    Args:
        losses_TR: from `losses_at_rungs`.
        at: the rungs; `losses_TR` has a column more, for the end.
    """
    trials = len(losses_TR)
    last_T, loss_T = np.full(trials, -1), np.full(trials, math.inf)
    running = np.arange(trials)
    for column, losses_T in enumerate(losses_TR.T):
        there = running[~np.isnan(losses_T[running])]
        last_T[there], loss_T[there] = column, losses_T[there]
        if column < len(at):
            going_on = math.ceil(len(there) * share_going_on(at[column]))
            running = there[np.argsort(losses_T[there], kind="stable")[:going_on]]
    return np.lexsort((np.arange(trials), loss_T, -last_T))
