"""Chooses which trial trains next: a new one, or one that is paused at a rung.

Trials pause at rungs and keep their checkpoints. The study's budget is spent in step with its
trials: while the share of the budget spent is below the share of trials begun, the paused trial
with the highest expected improvement for its remaining cost resumes (by its forecast; improvement
of the hypervolume, in a study that looks for a Pareto front); otherwise a new one begins. Whole
trainings thus inform the search early, and the length of a study is known. The epochs of one whole
trial are reserved until all have begun. Two trials are trained to their ends whatever the budget.
If the most promising of the trials past half their epochs is still paused once the budget is spent,
it is trained to its end all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

from search.sampling.forecast import Contender, estimates_of
from search.sampling.registry import WHOLE
from search.store.claims import Choice

NEW: Literal["new"] = "new"
FIRST = 4  # trials begin before any resumes
# What an image costs besides the network, in multiply-adds. The time of an epoch on a CPU is nearly
# proportional to this plus the network's own (215 recorded trainings, see docs/evidence.md).
OVERHEAD = 4_000_000


def choose(
    contenders: Sequence[Contender],
    *,
    trials: int,
    epochs: int,
    budget: float,
    prior: Path | None,
) -> Choice:
    """What a free worker should train next.

    Args:
        contenders: all trials of the study except failed ones, by number.
        trials: the study's total.
        epochs: maximum per trial.
        budget: epochs that the study may spend on these trials together.
        prior: see `forecast.fit`.
    """
    begun, spent = len(contenders), sum(one.epochs for one in contenders)
    kept = min(epochs, budget / 2)
    if begun < trials and (begun < FIRST or spent * trials >= (budget - kept) * begun):
        return NEW
    estimates = estimates_of(contenders, epochs, prior)
    known = [one for one in contenders if one.number in estimates]
    paused = [one for one in known if one.state == "paused"]
    if not paused:
        return NEW if begun < trials else None
    # Not those added by hand without a report: no forecast can use them, and none of them can win.
    whole = sum(it.state == "complete" and not math.isnan(it.level()) for it in contenders)
    if begun >= trials and spent >= budget and whole >= WHOLE:
        unpruned = [one for one in known if one.state != "pruned"]
        late = [it for it in unpruned if it.state == "complete" or it.epochs >= epochs / 2]
        favourite = min(late, key=lambda one: estimates[one.number], default=None)
        if favourite is None or favourite.state != "paused" or spent >= budget + epochs:
            return None
        return favourite.number
    front = Front([(one.size, estimates[one.number][0]) for one in known])

    def gain(one: Contender) -> tuple[float, float]:
        mean, sd = estimates[one.number]
        improvement = front.improvement(one.size, mean, sd)  # far behind the front it is exactly 0
        return improvement / remaining_cost(one, epochs), front.level(one.size) - mean

    return max(paused, key=gain).number


def remaining_cost(one: Contender, epochs: int) -> float:
    """Remaining epochs times the square root of what each costs on a CPU, up to a constant factor.

    Networks of the default space differ sevenfold in cost. With the cost itself instead of its
    root, a search trains too many small networks (docs/evidence.md).
    """
    return (epochs - one.epochs) * math.sqrt(OVERHEAD + one.work)


class Front:
    """A staircase: for each size, the lowest value of any trial up to that size.

    If size is no objective of the study, all trials have the same one: a single step of width 1.
    """

    def __init__(self, found: Iterable[tuple[float, float]]) -> None:
        self._steps, self._end = list[tuple[float, float]](), 0.0
        for size, value in sorted(found):
            self._end = size + 1  # reference point of the hypervolume: e times the largest size
            if not self._steps or value < self._steps[-1][1]:
                self._steps.append((size, value))

    def level(self, size: float) -> float:
        """The lowest value up to a size; infinite below the smallest."""
        return min((value for other, value in self._steps if other <= size), default=math.inf)

    def improvement(self, size: float, mean: float, sd: float) -> float:
        """Expected growth of the area above the staircase by a normally distributed value."""
        larger = [step for step in self._steps if step[0] > size]
        steps = [(size, self.level(size)), *larger, (self._end, -math.inf)]
        return sum(
            (after - before) * expected_improvement(value, mean, sd)
            for (before, value), (after, _) in pairwise(steps)
        )


def expected_improvement(lowest: float, mean: float, sd: float) -> float:
    """Expected improvement on `lowest` by a normally distributed value."""
    z = (lowest - mean) / sd
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return sd * (z * 0.5 * math.erfc(-z / math.sqrt(2)) + density)
