"""What an epoch costs: of a network by its size, and of the networks that a study will try.

Seconds an epoch grow like multiply-adds to some power: 0.68 measured on 2 CPU cores, near 0 where
launching kernels is what takes the time, as on GPUs. So a line is fitted to the logarithms, whose
slope starts from a prior: one trial is enough to say something of all others.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from statistics import fmean

from models import Architecture, ArchitectureError
from models.anatomy import anatomy
from search.analysis.course import epochs_trained
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import Choice, Domain, Fixed, ParameterValue, Range, SpecError
from search.spec.space import PARAMETERS, make_config
from search.store.view import StudyView, TrialView

Cost = Callable[[float], float]  # multiply-adds of one image -> seconds of one epoch
Shape = tuple[int, int, int]

SLOPE, SLOPE_SPREAD = 0.6, 0.3  # between the two kinds of machine
RATE_SPREAD = 0.25  # of log seconds around the line: augmentation, other work on the machine
# The baseline costs less than others of its size, having neither batch norm nor augmentation: 0.72
# on the CPU, nearer to 1 where launches count. As that is uncertain, it counts for half a trial.
BASELINE_SHARE, BASELINE_WEIGHT = 0.8, 0.5
PRIOR_EPOCHS = 20  # the space counts like so many epochs that were seen to be trained
DRAWS = 64


def is_measured(trial: TrialView) -> bool:
    return trial.config is not None and trial.seconds > 0


def fit_cost(view: StudyView) -> Cost:
    """The line through the measured trials, of which there must be one (ridge regression)."""
    points = [
        (
            math.log(_work(trial, view) or 1.0),
            math.log(_measured_seconds(trial) / (BASELINE_SHARE if trial.is_baseline else 1)),
            min(1.0, epochs_trained(trial)) * (BASELINE_WEIGHT if trial.is_baseline else 1.0),
        )
        for trial in view.trials
        if is_measured(trial)
    ]
    total = sum(weight for *_, weight in points)
    x_mean = sum(weight * x for x, _, weight in points) / total
    y_mean = sum(weight * y for _, y, weight in points) / total
    covariance = sum(weight * (x - x_mean) * (y - y_mean) for x, y, weight in points)
    variance = sum(weight * (x - x_mean) ** 2 for x, _, weight in points)
    prior = (RATE_SPREAD / SLOPE_SPREAD) ** 2
    slope = (SLOPE * prior + covariance) / (prior + variance)
    return lambda work: math.exp(y_mean + slope * (math.log(work) - x_mean))


def typical_seconds(view: StudyView, cost: Cost, judged: Sequence[TrialView]) -> float:
    """Seconds of one epoch of a later trial: the prior from the space, then as trials show.

    Args:
        judged: trials that were chosen and stopped as later ones will be.
    """
    possible = [cost(work) for work in _works_in_space(_key(view.spec), *_images(view))]
    prior = fmean(possible)
    known = [(epochs_trained(t), epoch_seconds(t, view, cost, prior)) for t in judged]
    known.append((PRIOR_EPOCHS, prior))
    return sum(epochs * rate for epochs, rate in known) / sum(epochs for epochs, _ in known)


def epoch_seconds(trial: TrialView, view: StudyView, cost: Cost, typical: float) -> float:
    """Of this trial: as measured, or as its size says, or as is typical."""
    if is_measured(trial):
        return _measured_seconds(trial)
    work = _work(trial, view)
    return typical if work is None else cost(work)


def _measured_seconds(trial: TrialView) -> float:
    """Of one epoch; an early look counts as the share of it that it is."""
    return trial.seconds / epochs_trained(trial)


def config_seconds(config: TrialConfig, view: StudyView, cost: Cost) -> float:
    """Of one epoch of a configuration of which no trial was measured: by its size."""
    work = multiply_adds(config.architecture, *_images(view))
    return cost(work or 1.0)


def _work(trial: TrialView, view: StudyView) -> float | None:
    if trial.config is None:
        return None
    return multiply_adds(trial.config.architecture, *_images(view))


def _images(view: StudyView) -> tuple[Shape, int]:
    return view.dataset.image_shape, len(view.dataset.class_names)


@lru_cache(maxsize=4096)
def multiply_adds(architecture: Architecture, image_shape: Shape, classes: int) -> float | None:
    """Of one image; None where the network does not fit."""
    try:
        return sum(row.multiply_adds for row in anatomy(architecture, image_shape, classes))
    except ArchitectureError:
        return None


def _key(spec: StudySpec) -> str:
    """The specification as something that a cache can hold; its total may change."""
    return json.dumps(spec.to_dict() | {"trials": 1}, sort_keys=True)


@lru_cache(maxsize=16)
def _works_in_space(key: str, image_shape: Shape, classes: int) -> tuple[float, ...]:
    """Multiply-adds of networks drawn evenly from the space; always the same draws."""
    spec = StudySpec.from_dict(json.loads(key))
    works = _drawn_works(spec, image_shape, classes, random.Random(0))
    return tuple(work for work in works if work is not None) or (1.0,)


def _drawn_works(
    spec: StudySpec, image_shape: Shape, classes: int, draws: random.Random
) -> Iterator[float | None]:
    for _ in range(DRAWS):
        values = {
            name: draw(spec.space.get(name, Fixed(value=parameter.default)), draws)
            for name, parameter in PARAMETERS.items()
        }
        try:
            architecture = make_config(values, spec).architecture
        except SpecError:  # values that do not go together; such a trial fails at once
            continue
        yield multiply_adds(architecture, image_shape, classes)


def draw(domain: Domain, draws: random.Random) -> ParameterValue:
    """A value from a domain, each (or each logarithm) as likely as any other."""
    match domain:
        case Fixed(value=value):
            return value
        case Choice(values=values):
            return draws.choice(values)
        case Range(low=low, high=high, log=log):
            edge = 0.5 if domain.integer else 0.0  # so that the ends are as likely as the others
            low, high = low - edge, high + edge
    number = (
        math.exp(draws.uniform(math.log(low), math.log(high))) if log else draws.uniform(low, high)
    )
    return round(number) if domain.integer else number
