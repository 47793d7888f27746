"""Which trial trains next: a new one, or one that was laid aside at a rung.

Trials pause at rungs and keep their checkpoint. As long as the study has room for new trials, a
paused one goes on only if it is among the best of its rung by where it is expected to end
(asynchronous successive halving in its promotion variant, Li et al. 2020). Once all trials have
begun, what is left of the budget goes to those that promise most for each further epoch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from search.sampling import halving
from search.sampling.forecast import PRIOR, Contender, fit

NEW: Literal["new"] = "new"
Choice = int | Literal["new"] | None  # a paused trial's number; a new trial; nothing is worth it
WHOLE = 2  # trials, of which one may be the baseline


def choose(
    contenders: Sequence[Contender],
    *,
    trials: int,
    epochs: int,
    budget: float,
    prior: Path | None = PRIOR,
) -> Choice:
    """What a free worker should train next.

    Args:
        contenders: all trials of the study but the failed ones, by number.
        trials: how many the study is to have.
        epochs: maximum per trial.
        budget: epochs that the study may spend on all trials together.
        prior: see `forecast.fit`.
    """
    forecast = fit(contenders, epochs, prior)
    estimates = {
        one.number: estimate for one in contenders if (estimate := forecast.estimate_final(one))
    }
    paused = [one for one in contenders if one.state == "paused" and one.number in estimates]
    spent = sum(one.epochs for one in contenders)
    if len(contenders) < trials:
        for rung in reversed(halving.rungs(epochs)):
            there = [n for n in contenders if n.number in estimates and max(n.curve) >= rung]
            there.sort(key=lambda one: estimates[one.number][0])
            best = there[: math.floor(len(there) * halving.PROMOTED)]
            waiting = [one for one in best if one.state == "paused" and max(one.curve) == rung]
            if waiting:
                return waiting[0].number
        return NEW
    whole = sum(one.state == "complete" for one in contenders)
    if not paused or (spent >= budget and whole >= WHOLE):
        return None
    lowest = min(mean for mean, _ in estimates.values())

    def gain(one: Contender) -> float:
        mean, sd = estimates[one.number]
        return _expected_improvement(lowest, mean, sd) / (epochs - one.epochs)

    return max(paused, key=gain).number


def _expected_improvement(lowest: float, mean: float, sd: float) -> float:
    """Of a normally distributed value below `lowest`."""
    z = (lowest - mean) / sd
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return sd * (z * 0.5 * math.erfc(-z / math.sqrt(2)) + density)
