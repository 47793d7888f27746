"""How far trials get before they are stopped.

The shares that pass each look of the pruner start from a prior and follow what trials show. The
prior of our own rule is found by playing it on made-up studies: it changes when the rule does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from search.sampling.choosing import STARTUP_TRIALS
from search.sampling.halving import RIVALS, rungs, worth_continuing
from search.spec.config import PrunerName, StudySpec
from search.spec.recipe import EARLY_LOOK
from search.store.view import StudyView, TrialView

UNJUDGED: dict[PrunerName, int] = {"halving": RIVALS, "median": 5, "none": 0}  # run to their end
PRIOR_TRIALS = 20  # the prior counts like so many trials seen at a look
# Of Optuna's median rule, for the first, second, ... look; the last holds for all further ones.
# Simulated.
MEDIAN_SHARES = (0.3, 0.83, 0.85, 0.88, 0.9, 0.93)

# The made-up studies. What they are tuned to: a real one on Fashion-MNIST, 50 trials of at most 10
# epochs, in which trials trained for 3.1 epochs on average, and late ones for no less.
MADE_UP_TRIALS = 10_000
MOST_TRIALS = 200  # in a study; in longer ones, shares hardly change from there on
FEWEST_TRIALS = 10  # that the shares of trials to come are taken from
LOOK_NOISE = 0.3  # of a trial's rank at a look, in standard deviations of their merits
TRIALS_A_DRAW = 4  # after n trials, a sampler finds about the best of n divided by this

Counts = Sequence[Sequence[int]]  # for each look: reached, passed


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """How far trials get.

    Attributes:
        looks: epochs after which the pruner looks, the early look as a fraction of the first.
        passing: the share of trials that goes on after each.
        longest: epochs of a trial that is never stopped.
    """

    looks: tuple[float, ...]
    passing: tuple[float, ...]
    longest: float

    def expected(self, done: float) -> float:
        """Epochs that a trial has yet to train which has trained and survived `done`."""
        epochs, alive = 0.0, 1.0
        for look, share in zip(self.looks, self.passing, strict=True):
            if look > done:
                epochs += alive * (look - done)
                alive *= share
                done = look
        return epochs + alive * max(0.0, self.longest - done)

    def rest(self, trial: TrialView) -> float:
        """The same for a running trial; the baseline is never stopped."""
        done = epochs_trained(trial)
        return max(0.0, self.longest - done) if trial.is_baseline else self.expected(done)


def fit_course(view: StudyView) -> Course:
    """Of the trials yet to come, and of the running ones."""
    looks = _looks(view.spec)
    passing = []
    for rank, look in enumerate(looks):
        reached = [trial for trial in judged(view) if epochs_trained(trial) >= look]
        # Trials that are being looked at, or failed there, say nothing.
        passed = sum(t.state == "complete" or epochs_trained(t) > look for t in reached)
        stopped = sum(t.state == "pruned" and epochs_trained(t) == look for t in reached)
        before, later = _prior_shares(view, rank)
        more = (PRIOR_TRIALS * before + passed) / (PRIOR_TRIALS + passed + stopped) / before
        passing.append(min(1.0, later * more))
    # Shorter than the study's epochs only where trials run out of patience.
    lengths = [len(trial.curve) for trial in view.leaderboard]
    longest = fmean([view.spec.epochs, *lengths])
    return Course(looks=looks, passing=tuple(passing), longest=longest)


def judged(view: StudyView) -> list[TrialView]:
    """Trials that were chosen and stopped as later ones will be."""
    first = UNJUDGED[view.spec.pruner]
    return [t for t in view.typical if t.number >= first and not t.is_baseline]


def epochs_trained(trial: TrialView) -> float:
    """As far as reported; the early look is that share of the first, scoring and all."""
    return len(trial.curve) or (0.0 if trial.early_look is None else EARLY_LOOK)


def _looks(spec: StudySpec) -> tuple[float, ...]:
    match spec.pruner:
        case "halving":
            return tuple(epoch or EARLY_LOOK for epoch in rungs(spec.epochs))
        case "median":
            return tuple(range(1, spec.epochs))
        case "none":
            return ()


def _prior_shares(view: StudyView, rank: int) -> tuple[float, float]:
    """Shares that pass the look of this rank: of the trials so far, and of those to come.

    They fall with time: early rivals are few and not selected, late ones many and good.
    """
    spec, begun = view.spec, view.count()
    if spec.pruner == "median":
        share = MEDIAN_SHARES[min(rank, len(MEDIAN_SHARES) - 1)]
        return share, share
    counts = _made_up_counts(
        min(spec.trials, MOST_TRIALS), tuple(rungs(spec.epochs)), spec.baseline is not None
    )
    border = min(begun, len(counts) - FEWEST_TRIALS)
    return _share(counts[RIVALS:begun], rank), _share(counts[max(RIVALS, border) :], rank)


def _share(counts: Sequence[Counts], rank: int) -> float:
    reached = sum(of_trial[rank][0] for of_trial in counts)
    passed = sum(of_trial[rank][1] for of_trial in counts)
    return (passed + 0.5) / (reached + 1)


@lru_cache(maxsize=16)
def _made_up_counts(trials: int, at: tuple[int, ...], baseline: bool) -> tuple[Counts, ...]:
    """For each trial and rung of made-up studies: how many trials came there, how many passed.

    The trials differ in merit, which each look sees with noise.
    """
    draws = random.Random(0)
    counts = [[[0, 0] for _ in at] for _ in range(trials)]
    for _ in range(MADE_UP_TRIALS // trials):
        seen: list[list[float]] = [[] for _ in at]
        for number in range(trials):
            choices = number // TRIALS_A_DRAW if number >= STARTUP_TRIALS else 1
            merit = min(draws.gauss(0, 1) for _ in range(choices))
            for look, (rung, rivals) in enumerate(zip(at, seen, strict=True)):
                value = merit + draws.gauss(0, LOOK_NOISE)
                goes_on = (baseline and number == 0) or worth_continuing(rung, value, rivals)
                rivals.append(value)
                counts[number][look][0] += 1
                counts[number][look][1] += goes_on
                if not goes_on:
                    break
    return tuple(counts)
