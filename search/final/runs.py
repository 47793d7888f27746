"""The trainings of finalize: those that decide between candidates, and the final ones."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from search.analysis.candidates import Candidate, decision_in_words, ranked
from search.final.choose import Chosen, temperature_of
from search.final.progress import shown_progress
from search.final.seeds import train_apart, train_in_turn
from search.running.pool import default_workers
from search.running.worker import TRIALS_PER_GPU
from search.store.data import check_data
from search.store.studies import StudyHandle
from search.store.views import StudyView
from search.terminal.commands import console
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.repeat import Job, TrainedRun
from search.training.task import Task

TRAININGS_AT_A_TIME = {"cpu": 1, "cuda": TRIALS_PER_GPU}  # of one process


@dataclass(frozen=True, kw_only=True, slots=True)
class How:
    """How runs are trained.

    Attributes:
        stop: set it to stop at the next training step.
        progress: whether each epoch is reported on standard error.
        ray: address of the Ray on which they are trained; None: here.
        gpus: of each of its tasks.
    """

    stop: threading.Event
    progress: bool
    ray: str | None = None
    gpus: float = 0.0


def at_a_time(runs: int, cores: int) -> int:
    """Processes that train: fewer than twice as many as cores, so that no core idles in the end.

    Three runs on two cores take 1.5 times as long as one if they share them, and else twice.
    """
    return math.ceil(runs / max(1, runs // cores))


def train_all(runs: Sequence[tuple[Job, int]], task: Task, how: How) -> list[TrainedRun]:
    """Every run, a job and a seed: side by side on a CPU with several cores, on a GPU in turn.

    Raises:
        StoppedError: `how.stop` was set; the same call goes on.
        RepeatError: a run died or diverged.
        SpecError: there is no such Ray.
    """
    kind, stop = task.device.type, how.stop
    processes = at_a_time(len(runs), default_workers(kind))
    shown: AbstractContextManager[Callable[[int, Epoch], None]] = nullcontext(lambda *_: None)
    if how.progress:
        shown = shown_progress(console(), runs)
    with shown as on_epoch:
        if how.ray is not None:
            from search.final.on_ray import train_on_ray  # Ray need not be there otherwise

            train_on_ray(runs, task, how.ray, how.gpus, stop=stop, on_epoch=on_epoch)
        elif processes > 1:
            train_apart(runs, processes=processes, stop=stop, on_epoch=on_epoch)
        trained = train_in_turn(
            runs, task, at_a_time=TRAININGS_AT_A_TIME[kind], stop=stop, on_epoch=on_epoch
        )
    if stop.is_set():  # too late for the last epoch, but not too late for the test set
        raise StoppedError
    return trained


def decide(
    study: StudyHandle,
    view: StudyView,
    candidates: Sequence[tuple[Chosen, Job]],
    seeds: int,
    task: Task,
    how: How,
) -> tuple[Chosen, tuple[Candidate, ...]]:
    """Train each candidate with fresh seeds on the study's split; the winner, and all of them.

    Its temperature is the geometric mean of those that fit its fresh runs.

    Args:
        task: the study's own training and validation images.

    Raises:
        StoppedError, RepeatError: see `train_all`; or every candidate diverged.
    """
    check_data(study, task)
    runs = [(job, seed) for _, job in candidates for seed in range(seeds)]
    trained = iter(train_all(runs, task, how))
    found, temperatures = [], dict[int, float]()
    for chosen, _ in candidates:
        ends = [next(trained).curve[-1] for _ in range(seeds)]
        values = [view.spec.value.of(end) for end in ends]
        number, best = chosen.trial.number, chosen.trial.best
        assert best is not None
        temperatures[number] = math.exp(sum(math.log(temperature_of(end)) for end in ends) / seeds)
        found.append(
            Candidate(
                trial=number,
                epochs=chosen.epochs,
                searched=best.value,
                values=tuple(value if math.isfinite(value) else math.inf for value in values),
            )
        )
    winner = ranked(found)[0]
    if not math.isfinite(winner.mean):
        raise RepeatError(
            "every candidate diverged with a fresh seed; name a trial with --trial N instead"
        )
    chosen = next(it for it, _ in candidates if it.trial.number == winner.trial)
    why = f"{decision_in_words(found, view.spec.objective)} {chosen.why}".rstrip()
    return replace(chosen, temperature=temperatures[winner.trial], why=why), tuple(found)
