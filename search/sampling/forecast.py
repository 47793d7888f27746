"""What a trial will come to: its final value, estimated from its curve so far.

By how much losses still fell from one rung to the next, on average over the study's trials, and how
unevenly. In logarithms, since losses of good and bad configurations differ by factors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from search.sampling import halving
from search.spec.recipe import EARLY_LOOK

Curve = Mapping[int, float]  # epoch -> value, a loss or an error; 0: the partial-epoch validation
SEED_SD = 0.03  # of the logarithm of a final loss: what another seed would change
UNKNOWN_SD = 0.05  # what a rung adds to that while too few trials have passed it to tell


State = Literal["running", "paused", "complete", "pruned"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """What is known of one trial that has not failed.

    Attributes:
        params: as Optuna stores them.
        curve: its objective by report; 0 is the partial-epoch validation. Empty before the first.
    """

    number: int
    state: State
    params: Mapping[str, Any]
    curve: Mapping[int, float]

    @property
    def epochs(self) -> float:
        """Trained so far."""
        last = max(self.curve, default=None)
        return 0.0 if last is None else last or EARLY_LOOK


@dataclass(frozen=True, slots=True)
class Forecast:
    """Fitted to one study; R rungs.

    Attributes:
        rungs: epochs, ascending.
        falls: mean change of the logarithm of the loss from each rung to the end, (R,).
        sds: its standard deviation, with the noise of the seed, (R,).
    """

    rungs: tuple[int, ...]
    falls: tuple[float, ...]
    sds: tuple[float, ...]

    def estimate_final(self, curve: Curve, *, complete: bool = False) -> tuple[float, float] | None:
        """(mean, standard deviation) of the logarithm of the trial's final (lowest) loss.

        None as long as no finite loss was reported.

        Args:
            complete: whether the trial has come to its end, and is known but for its seed.
        """
        finite = [loss for loss in curve.values() if math.isfinite(loss)]
        passed = sum(rung <= max(curve, default=-1) for rung in self.rungs)
        if not finite or not (complete or passed):
            return None
        lowest = math.log(max(min(finite), 1e-12))
        if complete:
            return lowest, SEED_SD
        return lowest + self.falls[passed - 1], self.sds[passed - 1]


def fit(trials: Iterable[Contender], epochs: int) -> Forecast:
    """Learn from all trials of a study, whose maximum is `epochs` epochs each."""
    rungs = halving.rungs(epochs)
    logs_TR = np.array([_logs_at_rungs(trial, rungs) for trial in trials])
    logs_TR = logs_TR.reshape(-1, len(rungs) + 1)
    fall, variance = 0.0, SEED_SD**2
    falls, sds = [], []
    for column in reversed(range(len(rungs))):
        changes = logs_TR[:, column + 1] - logs_TR[:, column]
        changes = changes[~np.isnan(changes)]
        fall += float(changes.mean()) if len(changes) else 0.0
        variance += float(changes.var(ddof=1)) if len(changes) > 2 else UNKNOWN_SD**2
        falls.append(fall)
        sds.append(math.sqrt(variance))
    return Forecast(tuple(rungs), tuple(falls[::-1]), tuple(sds[::-1]))


def _logs_at_rungs(trial: Contender, rungs: list[int]) -> list[float]:
    """Logarithms of the lowest losses at each rung and at the end; NaN beyond the last report."""
    finite = {e: loss for e, loss in trial.curve.items() if math.isfinite(loss)}
    complete, last = trial.state == "complete", max(finite, default=-1)
    found = []
    for rung in (*rungs, math.inf):
        seen = [loss for epoch, loss in finite.items() if epoch <= rung]
        known = seen and (complete or rung <= last)  # one that is complete fell no further
        found.append(math.log(max(min(seen), 1e-12)) if known else math.nan)
    return found
