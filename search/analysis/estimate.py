"""How long a study still takes.

Later trials differ from the first ones. Those are compared with nobody and run to their end; of
the others most are stopped early, and an epoch of a large network costs ten times one of a small
one. So the time is put together from two things that are learned apart, each from a prior on: how
far trials get (`search.analysis.course`) and what an epoch costs (`search.analysis.epoch_cost`).
"""

from __future__ import annotations

import time
from statistics import fmean, median

from search.analysis.course import UNJUDGED, epochs_trained, fit_course, judged
from search.analysis.epoch_cost import (
    config_seconds,
    epoch_seconds,
    fit_cost,
    is_measured,
    typical_seconds,
)
from search.spec.space import arm_config
from search.store.view import State, StudyView

BEGUN: tuple[State, ...] = ("running", "interrupted")  # the latter will be carried on
JUST_NOW = 10.0  # seconds since its last report in which a worker is between two trials


def time_left_now(view: StudyView, now: float | None = None) -> float | None:
    """The time left as every view and page shows it: with the workers that train now.

    Args:
        now: seconds since 1970; None: this moment.
    """
    now = time.time() if now is None else now
    return counted_down(time_left(view, len(workers_now(view, now)) or 1), view, now)


def workers_now(view: StudyView, now: float) -> set[str | None]:
    """Who holds a trial, or has just ended one and will claim the next."""
    ended = (trial.reports[-1] for trial in view.in_state("complete", "pruned") if trial.reports)
    between = {row.worker for row in ended if row.reported_at > now - JUST_NOW}
    left = {trial.worker for trial in view.in_state("interrupted")}
    return {trial.worker for trial in view.in_state("running")} | (between - left)


def counted_down(estimate: float | None, view: StudyView, now: float) -> float | None:
    """The estimate less what workers have trained since their last reports, which made it."""
    if estimate is None:
        return None
    heard: dict[str | None, float] = {}  # when each worker last reported
    for trial in view.trials:
        if trial.reports:
            last = trial.reports[-1]
            heard[last.worker] = max(last.reported_at, heard.get(last.worker, 0.0))
    since = []
    for trial in view.in_state("running"):
        own = trial.reports[-1] if trial.reports else None
        if own is not None and own.worker == trial.worker:
            since.append(now - own.reported_at)
        elif trial.worker in heard:  # its first epoch here, begun when the trial before had ended
            since.append(now - heard[trial.worker])
    return max(0.0, estimate - (max(0.0, fmean(since)) if since else 0.0))


def time_left(view: StudyView, workers: int = 1) -> float | None:
    """Seconds from the latest reports until the study has its total; None before the first.

    After the third of 50 trials it is within a factor of two in nine of ten simulated studies
    (tests/search/analysis/test_estimate.py). The last few trials are the hardest to foresee:
    they may be stopped at once or run to their end.

    Args:
        workers: how many trials are trained at a time.
    """
    remaining = view.spec.trials - view.finished
    if remaining <= 0:
        return 0.0
    if not any(map(is_measured, view.trials)):
        return None
    if view.spec.is_comparison:
        return _comparison_left(view, remaining, workers)
    course, cost = fit_course(view), fit_cost(view)
    typical = typical_seconds(view, cost, judged(view))

    running = view.in_state(*BEGUN)[:remaining]
    rests = [course.rest(trial) * epoch_seconds(trial, view, cost, typical) for trial in running]
    later = remaining - len(running)
    free = UNJUDGED[view.spec.pruner] - len(view.leaderboard) - len(running)
    unjudged = min(later, max(0, free))
    epochs = unjudged * course.longest + (later - unjudged) * course.expected(0.0)
    together = sum(rests) + epochs * typical + remaining * _overhead(view)
    return max([together / workers, *rests])


def _comparison_left(view: StudyView, remaining: int, workers: int) -> float:
    """Arm by arm, since it is known which trials are to come: as others of the same arm went.

    Nobody is pruned; a trial ends at the last epoch, out of patience, or by failing.
    """
    spec, cost = view.spec, fit_cost(view)
    longest = fit_course(view).longest
    lengths, rates = {}, {}
    for arm in spec.arms:
        mine = [trial for trial in view.trials if trial.arm == arm.name]
        ended = [epochs_trained(trial) for trial in mine if trial.state in ("complete", "failed")]
        lengths[arm.name] = fmean(ended) if ended else longest
        measured = [epoch_seconds(trial, view, cost, 0.0) for trial in mine if is_measured(trial)]
        rates[arm.name] = (
            fmean(measured) if measured else config_seconds(arm_config(spec, arm), view, cost)
        )
    rests = [
        max(0.0, lengths[trial.arm] - epochs_trained(trial)) * rates[trial.arm]
        for trial in view.in_state(*BEGUN)
        if trial.arm is not None
    ]
    later = [spec.place_of(number)[0].name for number in range(len(view.trials), spec.trials)]
    trainings = [lengths[name] * rates[name] for name in later]
    together = sum(rests) + sum(trainings) + remaining * _overhead(view)
    return max([together / workers, *rests, *trainings])


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
