"""How long a study will still take: the epochs left to train times the recent seconds per epoch.

An epoch is timed from one report of its worker to the next, because for small networks, proposing a
configuration and writing take longer than training.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, NamedTuple

from search.sampling.registry import epoch_budget, find_pruner
from search.spec.config import StudySpec
from search.spec.recipe import PARTIAL_EPOCH

if TYPE_CHECKING:
    from search.store.views import State, StudyView, TrialView

GUESS_TRIALS = 15  # the pruner's own guess of a trial's epochs counts as this many trials
GUESS_VARIATION = 1.0  # standard deviation of trials' seconds, relative to their mean
UNKNOWN_PATIENCE = 0.8  # spread until a first trial has shown how early they stop
MOST_BETWEEN = 60  # seconds between two reports besides training; more is a pause


class TimeLeft(NamedTuple):
    """Seconds, and their relative standard deviation."""

    seconds: float
    spread: float


class Trained(NamedTuple):
    """What the time left depends on in a trial."""

    number: int
    state: State
    epochs: float  # reported
    seconds: float  # that its workers spent on it
    continued: bool = False  # to its end at the user's request, whatever the pruner says
    worker: str | None = None  # that trains it


def time_left(view: StudyView, workers: int | None = None) -> TimeLeft | None:
    """From the latest reports until the study reaches its total; see `estimate`."""
    latest, seconds = dict[str, float](), defaultdict[int, float](float)
    rows = (row for trial in view.trials for row in trial.reports)
    for row in sorted(rows, key=lambda row: row.reported_at):
        gap = row.reported_at - latest.get(row.worker, row.reported_at)
        between = gap - row.seconds
        seconds[row.trial_number] += gap if 0 < between < MOST_BETWEEN else row.seconds
        latest[row.worker] = row.reported_at
    trials = [
        Trained(t.number, t.state, epochs_trained(t), seconds[t.number], t.continued, t.worker)
        for t in view.trials
    ]
    return estimate(view.spec, trials, workers)


def estimate(
    spec: StudySpec, trials: Sequence[Trained], workers: int | None = None
) -> TimeLeft | None:
    """Until the study reaches its total; None before the first report of a sampled trial.

    The baseline, made by hand and often small, says little about the others.

    After the third of 50 trials, it is within a factor of two in four of five simulated studies.
    Arms are assumed to take as long as before; arms not trained yet count like the others, and make
    the estimate correspondingly less certain.

    Args:
        trials: all trials of the study, by number.
        workers: training processes; None: as many as now, or one.
    """
    workers = workers or len({trial.worker for trial in trials if trial.state == "running"}) or 1
    counted = ("complete", "pruned", *(["failed"] if spec.is_comparison else []))
    ended = [trial for trial in trials if trial.state in counted]
    begun = [trial for trial in trials if trial.state in ("running", "paused", "interrupted")]
    drawn = trials[0 if spec.baseline is None else 1 :]
    timed = [trial for trial in drawn if trial.epochs > 0]
    missing = spec.trials - len(ended)
    if missing <= 0:
        return TimeLeft(0.0, 0.0)
    if not timed:
        return None
    if (budget := epoch_budget(spec)) is not None:
        complete = sum(trial.state == "complete" for trial in ended)
        needed = _needed_epochs(spec, begun, missing, complete)
        left = max(budget - sum(trial.epochs for trial in trials), needed)
        # What is left goes to the best, often large ones, like those trained furthest so far.
        furthest = sorted(timed, key=lambda trial: trial.epochs)[-max(3, len(timed) // 3) :]
        seconds = left * _epoch_seconds(furthest) / workers
        return TimeLeft(seconds, spread(GUESS_VARIATION, spec.trials, len(timed)))

    @cache
    def of_arm(arm: str | None) -> tuple[float, float]:
        """Expected epochs of one of its trials, and seconds per epoch."""
        own = [one for one in timed if arm_of(spec, one.number) == arm]
        return expected_epochs(spec, trials, arm), _epoch_seconds(own or timed)

    later = [arm_of(spec, n) for n in range(len(ended) + len(begun[:missing]), spec.trials)]
    jobs = [epochs * seconds for epochs, seconds in map(of_arm, later)]
    for trial in begun[:missing]:
        epochs, seconds = of_arm(arm_of(spec, trial.number))
        least = min(spec.patience or 1, spec.epochs - trial.epochs)  # it may have improved just now
        jobs.append(max(0.0, epochs - trial.epochs, least) * seconds)
    known = {arm_of(spec, trial.number) for trial in timed}
    unknown = sum(arm not in known for arm in later) / missing
    if spec.patience is not None and not ended:
        unknown = UNKNOWN_PATIENCE
    spent = [trial.seconds for trial in ended]
    varies = pstdev(spent) / fmean(spent) if len(spent) > 3 and any(spent) else GUESS_VARIATION
    total = max(sum(jobs) / workers, *jobs, 0.0)  # one trial is trained by one worker
    return TimeLeft(total, max(unknown, spread(varies, missing, len(spent))))


def spread(varies: float, remaining: int, known: int = 0) -> float:
    """Of the sum of the remaining trials, estimated from `known`; `varies`: of one trial."""
    return varies * math.sqrt(1 / max(1, remaining) + 1 / (GUESS_TRIALS + known))


def expected_epochs(
    spec: StudySpec, trials: Sequence[Trained] = (), arm: str | None = None
) -> float:
    """Epochs that a trial, or one of an arm, trains: guessed by the pruner, then from trials."""
    if (budget := epoch_budget(spec)) is not None:
        return max(budget, _needed_epochs(spec, (), spec.trials, complete=0)) / spec.trials
    pruner = find_pruner(spec.pruner)
    guess = pruner.expected_epochs(spec.epochs)
    states = ("complete", "failed") if spec.is_comparison else ("complete", "pruned")
    over = [one for one in trials if one.state in states and one.number >= pruner.unjudged]
    ended = [one.epochs for one in over if arm_of(spec, one.number) == arm]
    if guess < spec.epochs:
        return (GUESS_TRIALS * guess + sum(ended)) / (GUESS_TRIALS + len(ended))
    if spec.patience is not None and not ended:
        # As many as in other arms; before any trial has ended, twice what they have so far.
        ended = [one.epochs for one in over]
        begun = [one.epochs for one in trials if one.epochs > 0]
        guess = min(guess, 2 * fmean(begun) + spec.patience) if begun else guess
    return fmean(ended) if ended else guess


def _needed_epochs(spec: StudySpec, begun: Sequence[Trained], missing: int, complete: int) -> float:
    """Epochs that a study whose trials pause still trains even if its budget is spent.

    New trials begin, those in training reach a rung, and enough of them (probably the furthest)
    reach their ends.

    Args:
        begun: unfinished ones.
        missing: how many trials are unfinished or yet to begin.
        complete: number of complete trials.
    """
    pruner = find_pruner(spec.pruner)
    stops = [*(rung or PARTIAL_EPOCH for rung in pruner.rungs(spec.epochs)), spec.epochs]
    whole = min(missing, max(0, pruner.whole - complete))
    new = max(0, missing - len(begun))
    new_whole = min(new, max(0, whole - len(begun)))
    needed = new_whole * spec.epochs + (new - new_whole) * pruner.expected_epochs(spec.epochs)
    for place, trial in enumerate(sorted(begun, key=lambda trial: -trial.epochs)):
        ahead = [stop - trial.epochs for stop in stops if stop > trial.epochs]
        if trial.continued or place < whole:
            needed += max(ahead, default=0.0)
        elif trial.state == "running":
            needed += min(ahead, default=0.0)  # past a rung, it continues
    return needed


def arm_of(spec: StudySpec, number: int) -> str | None:
    """The arm of a trial; None in a search."""
    return spec.place_of(number)[0].name if spec.is_comparison else None


def _epoch_seconds(timed: Sequence[Trained]) -> float:
    """Mean over the latest 20 trials."""
    recent = timed[-20:]
    return sum(trial.seconds for trial in recent) / sum(trial.epochs for trial in recent)


def epochs_trained(trial: TrialView) -> float:
    """Epochs reported; the partial-epoch validation counts as a share of the first."""
    return len(trial.curve) or (0.0 if trial.partial_epoch is None else PARTIAL_EPOCH)
