"""The registry of learning-rate schedules; to add one, assign one entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

STEP_MILESTONES = (0.5, 0.75)  # where `step` divides the learning rate by ten (He et al. 2015)
WARM_UP = 0.2  # the share of a one-cycle schedule in which the rate rises
START = 0.05  # where a one-cycle schedule starts, as a share of its peak


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """The course of the learning rate over a training."""

    description: str  # one line
    # progress in [0, 1] of all training steps -> learning rate as a share of its peak, 0 or more
    factor: Callable[[float], float]


def _one_cycle(progress: float) -> float:
    if progress < WARM_UP:
        return START + (1 - START) * progress / WARM_UP
    return max(0.0, (1 - progress) / (1 - WARM_UP))


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(description="always the peak", factor=lambda _: 1.0),
    "step": Schedule(
        description="a tenth after half of the steps, a hundredth after three quarters",
        factor=lambda progress: 0.1 ** sum(progress >= milestone for milestone in STEP_MILESTONES),
    ),
    "cosine": Schedule(
        description="from the peak to 0 along a cosine (Loshchilov & Hutter 2017)",
        factor=lambda progress: 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))),
    ),
    "one-cycle": Schedule(
        description="up over the first fifth, then down to 0, both linear (Smith & Topin 2018)",
        factor=_one_cycle,
    ),
}
