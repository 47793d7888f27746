"""The trainings of finalize, several at a time: side by side, in turn, or on Ray.

A small network gains little by threads and does not fill a GPU. So a CPU gets a process with one
thread for each run, and a GPU one process that trains them in turn. A run is a job and a seed; its
bits do not depend on how many run beside it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from functools import partial

import torch

from data.errors import DataError
from models import ArchitectureError
from search.final.progress import shown_progress
from search.running.pool import WATCH_SECONDS, ChildProcess, default_workers, stop_all
from search.running.trial import is_out_of_memory
from search.running.worker import TRIALS_PER_GPU
from search.spec.domains import SpecError
from search.spec.extensions import require
from search.terminal.commands import BAD_INPUT
from search.terminal.stopping import StopOnSignal
from search.training.device import prepare_process, return_memory
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.repeat import Job, TrainedRun, train_slices
from search.training.task import Task

THREADS = 1  # of a training on a CPU
TRAININGS_AT_A_TIME = {"cpu": 1, "cuda": TRIALS_PER_GPU}  # of one process


def processes_for(runs: int, cores: int) -> int:
    """Processes that train: fewer than twice as many as cores, so that no core idles in the end.

    Three runs on two cores take 1.5 times as long as one if they share them, and else twice.
    """
    return math.ceil(runs / max(1, runs // cores))


def train_all(
    runs: Sequence[tuple[Job, int]],
    task: Task,
    *,
    stop: threading.Event,
    progress: bool = False,
    ray: str | None = None,
    gpus: float = 0.0,
) -> list[TrainedRun]:
    """Every run: side by side on a CPU with several cores, on a GPU in turn.

    Args:
        stop: set it to stop at the next training step.
        progress: whether each epoch is reported on standard error.
        ray: address of the Ray on which they are trained; None: here.
        gpus: of each of its tasks.

    Raises:
        StoppedError: `stop` was set; the same call goes on.
        RepeatError: a run died or diverged.
        SpecError: there is no such Ray.
    """
    kind = task.device.type
    processes = processes_for(len(runs), default_workers(kind))
    with shown_progress(runs) if progress else nullcontext(lambda *_: None) as on_epoch:
        if ray is not None:
            from search.final.on_ray import train_on_ray  # Ray need not be there otherwise

            train_on_ray(runs, task, ray, gpus, stop=stop, on_epoch=on_epoch)
        elif processes > 1:
            train_apart(runs, processes=processes, stop=stop, on_epoch=on_epoch)
        trained = train_in_turn(
            runs, task, at_a_time=TRAININGS_AT_A_TIME[kind], stop=stop, on_epoch=on_epoch
        )
    if stop.is_set():  # too late for the last epoch, but not too late for the test set
        raise StoppedError
    return trained


def train_apart(
    runs: Sequence[tuple[Job, int]],
    *,
    processes: int,
    stop: threading.Event,
    on_epoch: Callable[[int, Epoch], None],
) -> None:
    """Train every run to its end in processes of their own, on CPUs; results lie in checkpoints.

    Args:
        processes: how many at a time.
        on_epoch: called with a run's index and epoch as they come.

    Raises:
        StoppedError: `stop` was set; only the current epochs are lost.
        RepeatError: a process died; the others were terminated.
    """
    reports = queue.SimpleQueue[tuple[int, bytes]]()
    waiting, running = list(range(len(runs))), dict[int, ChildProcess]()

    def keep(index: int, line: bytes) -> None:
        reports.put((index, line))

    try:
        while waiting or running:
            if stop.is_set():
                raise StoppedError
            while waiting and len(running) < processes:
                index = waiting.pop(0)
                running[index] = ChildProcess(f"{__name__}:train_one", partial(keep, index))
                running[index].call(*runs[index])
            stop.wait(WATCH_SECONDS)
            ended = [index for index, child in running.items() if child.poll() is not None]
            while not reports.empty():
                index, line = reports.get()
                on_epoch(index, Epoch(**json.loads(line)))
            for index in ended:
                _raise_if_failed(runs[index][1], running.pop(index))
    finally:
        stop_all(running.values())


def _raise_if_failed(seed: int, child: ChildProcess) -> None:
    if child.process.returncode == BAD_INPUT:
        problem = "ended with the error above; fix it, then run the same command again to resume"
        raise RepeatError(f"training seed {seed} {problem}")
    if child.process.returncode != 0:
        raise RepeatError(
            f"the process that trained seed {seed} died ({child.cause_of_death()}); the same "
            "command goes on from its last epoch"
        )


def train_one(job: Job, seed: int) -> int:
    """What a process does: train one seed, with a line of standard output for each epoch."""
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else may write between the reports
    prepare_process(THREADS)
    spec = job.spec
    with StopOnSignal() as stopping:
        try:
            require(spec.extensions, spec.families, spec.dataset)
            train_in_turn(
                [(job, seed)],
                job.load(torch.device("cpu")),
                stop=stopping.event,
                on_epoch=lambda _, it: print(json.dumps(dataclasses.asdict(it)), file=reports),
            )
        except StoppedError:
            pass
        except (RepeatError, DataError, SpecError, ArchitectureError, OSError) as error:
            raise RepeatError(f"seed {seed}: {error}") from error
    return stopping.exit_code


def train_in_turn(
    runs: Sequence[tuple[Job, int]],
    task: Task,
    *,
    at_a_time: int = 1,
    stop: threading.Event,
    on_epoch: Callable[[int, Epoch], None],
) -> list[TrainedRun]:
    """Train every run to its end in this process, so many at a time, a slice each in turn.

    Where they do not fit into memory together, they go on from their checkpoints one by one.

    Args:
        on_epoch: called with a run's index and epoch as they come.

    Raises:
        StoppedError: `stop` was set; only the current epochs are lost.
        RepeatError: see `train_slices`.
    """
    waiting, ended = list(range(len(runs))), dict[int, TrainedRun]()
    running = deque[tuple[int, Generator[None, None, TrainedRun]]]()
    while waiting or running:
        while waiting and len(running) < at_a_time:
            index = waiting.pop(0)
            job, seed = runs[index]
            told = partial(on_epoch, index)
            running.append((index, train_slices(job, task, seed, stop=stop, on_epoch=told)))
        index, slices = running.popleft()
        crowded = False
        try:
            next(slices)
        except StopIteration as done:
            ended[index] = done.value
        except Exception as error:
            if not (running and is_out_of_memory(error)):
                raise
            crowded = True
        else:
            running.append((index, slices))
        if crowded:  # out here no error holds on to tensors any more
            waiting, at_a_time = sorted([index, *(it[0] for it in running), *waiting]), 1
            for _, other in running:
                other.close()
            running.clear()
            del slices, other
            return_memory()
    return [ended[index] for index in range(len(runs))]
