"""How long a study still takes: the epochs still to train, times what an epoch takes here.

How far trials get is learned from those that trained, starting from a guess. Seconds of an epoch
grow like multiply-adds to some power (0.68 measured on 2 CPU cores, near 0 where launching kernels
takes the time, as on GPUs), so one measured trial says something of networks of other sizes.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, median, pstdev

import optuna

from models import Architecture, ArchitectureError
from search.sampling.registry import find_pruner
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import SpecError
from search.spec.recipe import EARLY_LOOK
from search.spec.space import arm_config, suggest
from search.store.database import optuna_warnings_only
from search.store.views import StudyView, TrialView

GUESS_TRIALS = 15  # the pruner's own guess counts like so many trials seen at each rung
POWER = 0.5  # of multiply-adds, between the two kinds of machine
DRAWS, GUESS_EPOCHS = 16, 20  # networks of the space; they count like so many measured epochs
# Standard deviation of the seconds of trials, as a share of their mean: of a search, and of an arm.
GUESS_VARIATION, ARM_VARIATION = 1.0, 0.3
JUST_NOW = 10.0  # seconds since its last report in which a worker is between two trials


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """Seconds, and their standard deviation as a share of them."""

    seconds: float
    spread: float


def time_left_now(view: StudyView, now: float | None = None) -> TimeLeft | None:
    """The time left with the workers that train now, less what they trained since their reports.

    Args:
        now: seconds since 1970; None: this moment.
    """
    now = time.time() if now is None else now
    left = time_left(view, len(workers_now(view, now)) or 1)
    if left is None:
        return None
    held = [(trial, trial.reports[-1]) for trial in view.in_state("running") if trial.reports]
    since = [now - row.reported_at for trial, row in held if row.worker == trial.worker]
    return TimeLeft(max(0.0, left.seconds - max(0.0, fmean(since or [0.0]))), left.spread)


def workers_now(view: StudyView, now: float) -> set[str | None]:
    """Who holds a trial, or has just ended one and will claim the next."""
    ended = (trial.reports[-1] for trial in view.in_state("complete", "pruned") if trial.reports)
    between = {row.worker for row in ended if row.reported_at > now - JUST_NOW}
    left = {trial.worker for trial in view.in_state("interrupted")}
    return {trial.worker for trial in view.in_state("running")} | (between - left)


def time_left(view: StudyView, workers: int = 1) -> TimeLeft | None:
    """From the latest reports until the study has its total; None before the first.

    After the third of 50 trials it is within a factor of two in nine of ten simulated studies
    (tests/search/analysis/test_time_left.py).

    Args:
        workers: how many trials are trained at a time.
    """
    remaining = view.spec.trials - view.finished
    cost = fit_cost(view)
    if remaining <= 0 or cost is None:
        return None if remaining > 0 else TimeLeft(0.0, 0.0)
    begun = view.in_state("running", "interrupted")[:remaining]  # the latter are carried on
    parts = _of_comparison if view.spec.is_comparison else _of_search
    rests, later = parts(view, cost, begun, remaining - len(begun))
    total = sum(rests) + sum(later) + remaining * _overhead(view)
    spent = [trial.seconds for trial in _judged(view) if trial.state in ("complete", "pruned")]
    varies = pstdev(spent) / fmean(spent) if len(spent) > 3 else GUESS_VARIATION
    if view.spec.is_comparison:
        varies = ARM_VARIATION
    spread = varies * math.sqrt(1 / remaining + 1 / (GUESS_TRIALS + len(spent)))
    alone = [*rests, *later] if view.spec.is_comparison else rests  # one trial is trained by one
    return TimeLeft(max([total / workers, *alone]), spread)


def time_ahead(
    view: StudyView, epoch_seconds: Sequence[float], begun: int, workers: int
) -> TimeLeft:
    """Of a search without a measured trial: from seconds of an epoch of networks of its space."""
    seconds = _epochs_from(view, begun) * fmean(epoch_seconds) / workers
    remaining = max(1, view.spec.trials - begun)
    return TimeLeft(seconds, GUESS_VARIATION * math.sqrt(1 / remaining + 1 / GUESS_TRIALS))


Cost = Callable[[Architecture], float]  # seconds of an epoch
Parts = tuple[list[float], list[float]]  # seconds of each trial under way, and of each to come


def fit_cost(view: StudyView) -> Cost | None:
    """What an epoch of a network takes, from the measured trials; None without any."""
    images = view.dataset.image_shape, len(view.dataset.class_names)
    measured = [
        (
            _seconds_per_epoch(trial) / work(trial.config.architecture, *images),
            epochs_trained(trial),
        )
        for trial in view.trials
        if trial.config is not None and trial.seconds > 0
    ]
    if not measured:
        return None
    rate = sum(rate * weight for rate, weight in measured) / sum(weight for _, weight in measured)
    return lambda network: rate * work(network, *images)


def work(network: Architecture, image_shape: tuple[int, int, int], classes: int) -> float:
    """What the seconds of an epoch are proportional to.

    Networks count as equal where nobody has loaded PyTorch, which counts multiply-adds: `--status`
    answers at once.
    """
    return _work_of(network, image_shape, classes) if "torch" in sys.modules else 1.0


@lru_cache(maxsize=4096)
def _work_of(network: Architecture, image_shape: tuple[int, int, int], classes: int) -> float:
    from models.summary import anatomy

    try:
        rows = anatomy(network, image_shape, classes)
    except ArchitectureError:  # such a trial fails at once
        return 1.0
    multiply_adds = sum(row.multiply_adds for row in rows)
    return math.pow(max(1, multiply_adds), POWER)


def _of_search(view: StudyView, cost: Cost, begun: Sequence[TrialView], later: int) -> Parts:
    networks = _networks(json.dumps(view.spec.to_dict() | {"trials": 1}, sort_keys=True))
    known = [(epochs_trained(t), t.seconds) for t in _judged(view)]
    known.append((GUESS_EPOCHS, GUESS_EPOCHS * fmean(map(cost, networks))))
    typical = sum(seconds for _, seconds in known) / sum(epochs for epochs, _ in known)
    longest, share = _longest(view), _share_trained(view)
    rests = [
        max(0.0, longest - epochs_trained(trial))
        * (1.0 if trial.is_baseline else share)  # the baseline is never stopped
        * (_seconds_per_epoch(trial) or typical)
        for trial in begun
    ]
    return rests, [typical * _epochs_from(view, view.spec.trials - later)]


def _of_comparison(view: StudyView, cost: Cost, begun: Sequence[TrialView], later: int) -> Parts:
    """Arm by arm: a trial ends at the last epoch, out of patience, or by failing."""
    spec = view.spec
    lengths, rates = {}, {}
    for arm in spec.arms:
        mine = [trial for trial in view.trials if trial.arm == arm.name]
        ended = [epochs_trained(t) for t in mine if t.state in ("complete", "failed")]
        lengths[arm.name] = fmean(ended) if ended else _longest(view)
        measured = [rate for trial in mine if (rate := _seconds_per_epoch(trial))]
        rates[arm.name] = fmean(measured or [cost(arm_config(spec, arm).architecture)])
    rests = [
        max(0.0, lengths[trial.arm] - epochs_trained(trial)) * rates[trial.arm]
        for trial in begun
        if trial.arm is not None
    ]
    names = [spec.place_of(number)[0].name for number in range(spec.trials - later, spec.trials)]
    return rests, [lengths[name] * rates[name] for name in names]


def _epochs_from(view: StudyView, first: int) -> float:
    """That the trials of a search from this number on are expected to train."""
    later = max(0, view.spec.trials - first)
    unjudged = min(later, max(0, find_pruner(view.spec.pruner).unjudged - first))
    return _longest(view) * (unjudged + (later - unjudged) * _share_trained(view))


def _share_trained(view: StudyView) -> float:
    """Of the epochs of a trial that is not stopped, those that one trains on average."""
    ended, longest = [t for t in _judged(view) if t.state in ("complete", "pruned")], _longest(view)
    trained = [t.state == "complete" or epochs_trained(t) / longest for t in ended]
    guess = find_pruner(view.spec.pruner).expected_epochs(view.spec.epochs) / view.spec.epochs
    return (GUESS_TRIALS * guess + sum(trained)) / (GUESS_TRIALS + len(trained))


def epochs_trained(trial: TrialView) -> float:
    """As far as reported; the early look is a share of the first."""
    return len(trial.curve) or (0.0 if trial.early_look is None else EARLY_LOOK)


def _seconds_per_epoch(trial: TrialView) -> float:
    return trial.seconds / epochs_trained(trial) if trial.seconds > 0 else 0.0


def _longest(view: StudyView) -> float:
    """Epochs of a trial that is not stopped: fewer than the study's where patience runs out."""
    return fmean([view.spec.epochs, *(len(trial.curve) for trial in view.leaderboard)])


def _judged(view: StudyView) -> list[TrialView]:
    """Trials that were chosen and stopped as later ones will be."""
    first = find_pruner(view.spec.pruner).unjudged
    return [t for t in view.trials if t.number >= first and not t.is_baseline]


def _overhead(view: StudyView) -> float:
    """Seconds of a trial that are not training; the median, as one may have paused for a night."""
    seconds = [
        (trial.finished - trial.started).total_seconds() - trial.seconds
        for trial in view.in_state("complete", "pruned")
        if trial.started is not None and trial.finished is not None
    ]
    return max(0.0, median(seconds or [0.0]))


def draw_configs(spec: StudySpec, count: int) -> Iterator[TrialConfig]:
    """Configurations drawn evenly from the space, always the same; of `count`, those that fit."""
    with optuna_warnings_only():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(count):
        try:
            yield suggest(study.ask(), spec)
        except SpecError:  # values that do not go together: such a trial fails at once
            continue


@lru_cache(maxsize=16)
def _networks(spec: str) -> Sequence[Architecture]:
    """Of the space of a specification in JSON."""
    return [c.architecture for c in draw_configs(StudySpec.from_dict(json.loads(spec)), DRAWS)]
