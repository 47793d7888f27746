"""Several runs at a time: on a CPU a process with one thread each, on a GPU one process in turn.

A small network gains little by threads and does not fill a GPU. A run's bits do not depend on how
many run beside it: on a CPU each has one thread, come what may. A run is a job and a seed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial

import torch

from data.errors import DataError
from models import ArchitectureError
from search.running.pool import WATCH_SECONDS, ChildProcess, stop_all
from search.running.trial import is_out_of_memory
from search.terminal.commands import BAD_INPUT
from search.terminal.stopping import StopOnSignal
from search.training.device import prepare_process, return_memory
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.repeat import Job, TrainedRun, train_slices
from search.training.task import Task

THREADS = 1


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
    with StopOnSignal() as stopping:
        try:
            train_in_turn(
                [(job, seed)],
                job.load(torch.device("cpu")),
                stop=stopping.event,
                on_epoch=lambda _, it: print(json.dumps(dataclasses.asdict(it)), file=reports),
            )
        except StoppedError:
            pass
        except (RepeatError, DataError, ArchitectureError, OSError) as error:
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
