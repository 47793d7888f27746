"""How long a study still takes.

Later trials differ from the first ones. Those are compared with nobody and run to their end; of
the others most are stopped early, and the survivors tend to be large networks. So the time is put
together from two things that are learned apart, each from a prior on: how far trials get, here, and
what an epoch costs, in `search.reporting.epoch_cost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, median

from search.reporting.epoch_cost import (
    epoch_seconds,
    epochs_trained,
    fit_cost,
    is_measured,
    typical_seconds,
)
from search.training.train import EARLY_LOOK
from search.trials.choosing import RIVALS, is_rung
from search.trials.config import PrunerName, StudySpec
from search.trials.view import StudyView, TrialView

# Shares that pass the first, second, ... look; the last holds for all further ones. `halving`: as
# seen in studies of 50 trials on digits and on 5 000 images of Fashion-MNIST, where 0.66 to 0.72
# passed each rung: more than half, since the first trials, which are compared with nobody, stay
# among the rivals, and since the sampler learns. `median`: simulated.
PASS_SHARES: dict[PrunerName, tuple[float, ...]] = {
    "halving": (0.65, 0.68, 0.7, 0.75),
    "median": (0.3, 0.83, 0.85, 0.88, 0.9, 0.93),
    "none": (1.0,),
}
PASS_WEIGHT = 40  # these shares count like so many trials seen at a look
UNJUDGED: dict[PrunerName, int] = {"halving": RIVALS, "median": 5, "none": 0}  # run to their end


def time_left(view: StudyView, workers: int = 1) -> float | None:
    """Seconds until the study has its total, or None before anything was measured.

    After the third of 50 trials it is within a factor of two in nine of ten simulated studies
    (tests/search/reporting/test_estimate.py). The last few trials are the hardest to foresee:
    they may be stopped at once or run to their end.

    Args:
        workers: how many trials are trained at a time.
    """
    remaining = view.spec.trials - view.finished
    if remaining <= 0:
        return 0.0
    if not any(map(is_measured, view.trials)):
        return None
    course, cost = _fit_course(view), fit_cost(view)
    typical = typical_seconds(view, cost, _judged(view))

    running = view.in_state("running")[:remaining]
    rests = [course.rest(trial) * epoch_seconds(trial, view, cost, typical) for trial in running]
    later = remaining - len(running)
    free = UNJUDGED[view.spec.pruner] - len(view.leaderboard) - len(running)
    unjudged = min(later, max(0, free))
    epochs = unjudged * course.longest + (later - unjudged) * course.expected(0.0)
    together = sum(rests) + epochs * typical + remaining * _overhead(view)
    return max([together / workers, *rests])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Course:
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


def _fit_course(view: StudyView) -> _Course:
    looks, shares = _looks(view.spec), PASS_SHARES[view.spec.pruner]
    passing = []
    for rank, look in enumerate(looks):
        reached = [trial for trial in _judged(view) if epochs_trained(trial) >= look]
        # Trials that are being looked at, or failed there, say nothing.
        passed = sum(t.state == "complete" or epochs_trained(t) > look for t in reached)
        stopped = sum(t.state == "pruned" and epochs_trained(t) == look for t in reached)
        prior = shares[min(rank, len(shares) - 1)]
        passing.append((PASS_WEIGHT * prior + passed) / (PASS_WEIGHT + passed + stopped))
    # Shorter than the study's epochs only where trials run out of patience.
    lengths = [len(trial.curve) for trial in view.leaderboard]
    return _Course(looks=looks, passing=tuple(passing), longest=fmean([view.spec.epochs, *lengths]))


def _judged(view: StudyView) -> list[TrialView]:
    """Trials that were chosen and stopped as later ones will be."""
    return [t for t in view.trials[UNJUDGED[view.spec.pruner] :] if not t.is_baseline]


def _looks(spec: StudySpec) -> tuple[float, ...]:
    match spec.pruner:
        case "halving":
            return tuple(epoch or EARLY_LOOK for epoch in range(spec.epochs) if is_rung(epoch))
        case "median":
            return tuple(range(1, spec.epochs))
        case "none":
            return ()


def _overhead(view: StudyView) -> float:
    """Seconds of a trial that are not training: drawing parameters, the database, checkpoints.

    The median, since a trial that was laid aside for a night says nothing.
    """
    seconds = [
        (trial.finished - trial.started).total_seconds() - trial.seconds
        for trial in view.in_state("complete", "pruned")
        if trial.started is not None and trial.finished is not None
    ]
    return max(0.0, median(seconds or [0.0]))
