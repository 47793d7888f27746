"""Which trial trains next: a new one, or one that was laid aside at a rung.

Trials pause at rungs and keep their checkpoint. The study's budget is spent in step with its
trials: while a smaller share of it is spent than of the trials has begun, the paused trial goes on
from which each further epoch promises most (by its forecast; expected improvement); else a new one
begins. So what is learned from whole trainings comes early, and the length of a study is known. As
much as one whole trial takes is kept for when all have begun; and if the trial that promises most
is paused then, it is trained to its end even if the budget is spent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from search.sampling.forecast import PRIOR, Contender, fit

NEW: Literal["new"] = "new"
Choice = int | Literal["new"] | None  # a paused trial's number; a new trial; nothing is worth it
FIRST = 4  # trials begin before any goes on
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
    begun, spent = len(contenders), sum(one.epochs for one in contenders)
    kept = min(epochs, budget / 2)
    if begun < trials and (begun < FIRST or spent * trials >= (budget - kept) * begun):
        return NEW
    forecast = fit(contenders, epochs, prior)
    estimates = {
        one.number: estimate for one in contenders if (estimate := forecast.estimate_final(one))
    }
    paused = [one for one in contenders if one.state == "paused" and one.number in estimates]
    if not paused:
        return NEW if begun < trials else None
    whole = sum(one.state == "complete" for one in contenders)
    if begun >= trials and spent >= budget and whole >= WHOLE:
        favourite = min(
            (one for one in contenders if one.number in estimates and one.state != "pruned"),
            key=lambda one: estimates[one.number],
        )
        can_end = favourite.state == "paused" and spent < budget + epochs
        return favourite.number if can_end else None
    lowest = min(mean for mean, _ in estimates.values())

    def gain(one: Contender) -> float:
        mean, sd = estimates[one.number]
        return expected_improvement(lowest, mean, sd) / (epochs - one.epochs)

    return max(paused, key=gain).number


def expected_improvement(lowest: float, mean: float, sd: float) -> float:
    """Of a normally distributed value below `lowest`."""
    z = (lowest - mean) / sd
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return sd * (z * 0.5 * math.erfc(-z / math.sqrt(2)) + density)
