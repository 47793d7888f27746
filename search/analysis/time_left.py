"""How long a study still takes: the epochs still to train, times what an epoch took lately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

from search.sampling.registry import epoch_budget, find_pruner
from search.spec.config import StudySpec
from search.spec.recipe import EARLY_LOOK

if TYPE_CHECKING:
    from search.store.views import StudyView, TrialView

GUESS_TRIALS = 15  # the pruner's own guess of a trial's epochs counts like so many trials
GUESS_VARIATION = 1.0  # standard deviation of the seconds of trials, as a share of their mean
RECENT = 20  # trials that the cost of an epoch is taken from


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """Seconds, and their standard deviation as a share of them."""

    seconds: float
    spread: float


def time_left(view: StudyView, workers: int | None = None) -> TimeLeft | None:
    """From the latest reports until the study has its total; None before the first.

    After the third of 50 trials it is within a factor of two in four of five simulated studies
    (tests/search/analysis/test_time_left.py). Arms go as they went before; those that have not
    been trained yet count like the others, and make the estimate that much less certain.

    Args:
        workers: how many trials are trained at a time; None: as many as now, or one.
    """
    workers = workers or view.count("running") or 1
    spec, remaining = view.spec, view.spec.trials - view.finished
    timed = [trial for trial in view.trials if trial.seconds > 0]
    if remaining <= 0 or not timed:
        return None if remaining > 0 else TimeLeft(0.0, 0.0)
    if (budget := epoch_budget(spec)) is not None:
        to_begin = spec.trials - view.count() + view.count("failed", "waiting")
        ahead = max(budget - sum(map(epochs_trained, view.trials)), to_begin * EARLY_LOOK)
        seconds = ahead * _epoch_seconds(timed, None) / workers
        return TimeLeft(seconds, spread(GUESS_VARIATION, spec.trials, len(timed)))
    begun = view.in_state("running", "interrupted")[:remaining]  # the latter are carried on
    first = spec.trials - remaining + len(begun)
    later = [arm_of(spec, number) for number in range(first, spec.trials)]
    known = {trial.arm for trial in timed}
    arms = {trial.arm for trial in begun}.union(later)
    epochs = {arm: expected_epochs(view, arm) for arm in arms}
    rates = {arm: _epoch_seconds(timed, arm) for arm in arms}
    rests = [
        max(0.0, spec.epochs - done)
        * epochs[trial.arm]
        / spec.epochs
        * (trial.seconds / done if done else rates[trial.arm])
        for trial in begun
        for done in (epochs_trained(trial),)
    ]
    whole = [epochs[arm] * rates[arm] for arm in later]
    unknown = len([arm for arm in later if arm not in known]) / remaining
    spent = [trial.seconds for trial in view.in_state("complete", "pruned")]
    varies = pstdev(spent) / fmean(spent) if len(spent) > 3 and any(spent) else GUESS_VARIATION
    alone = [*rests, *(whole if spec.is_comparison else ())]  # one trial is trained by one
    total = max([sum([*rests, *whole]) / workers, *alone])
    return TimeLeft(total, max(unknown, spread(varies, remaining, len(spent))))


def spread(varies: float, remaining: int, known: int = 0) -> float:
    """Of the sum of so many trials, estimated from `known` ones; `varies`: that of one trial."""
    return varies * math.sqrt(1 / max(1, remaining) + 1 / (GUESS_TRIALS + known))


def expected_epochs(view: StudyView, arm: str | None = None) -> float:
    """That a trial, or one of an arm, trains: guessed by the pruner, then as trials did."""
    spec, pruner = view.spec, find_pruner(view.spec.pruner)
    if (budget := epoch_budget(spec)) is not None:
        return budget / spec.trials
    states = ("complete", "failed") if spec.is_comparison else ("complete", "pruned")
    ended = [
        epochs_trained(trial)
        for trial in view.trials
        if trial.state in states and trial.arm == arm and not trial.is_baseline
        if trial.number >= pruner.unjudged
    ]
    guess = pruner.expected_epochs(spec.epochs)
    weight = GUESS_TRIALS if guess < spec.epochs else 0 if spec.is_comparison and ended else 1
    return (weight * guess + sum(ended)) / (weight + len(ended))


def arm_of(spec: StudySpec, number: int) -> str | None:
    """The arm of a trial; None in a search."""
    return spec.place_of(number)[0].name if spec.is_comparison else None


def _epoch_seconds(timed: Sequence[TrialView], arm: str | None) -> float:
    """Of the latest trials of an arm, or of all where it has none."""
    recent = ([trial for trial in timed if trial.arm == arm] or timed)[-RECENT:]
    return sum(trial.seconds for trial in recent) / sum(map(epochs_trained, recent))


def epochs_trained(trial: TrialView) -> float:
    """As far as reported; the partial-epoch validation is a share of the first."""
    return len(trial.curve) or (0.0 if trial.early_look is None else EARLY_LOOK)
