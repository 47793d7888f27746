"""Several seeds at a time, a process with one thread each: a small network gains little by threads.

A run's bits do not depend on how many run beside it: on a CPU each has one thread, come what may.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

import torch

from data.errors import DataError
from models import ArchitectureError
from search.running.pool import WATCH_SECONDS, ChildProcess, stop_all
from search.terminal.commands import BAD_INPUT
from search.terminal.stopping import StopOnSignal
from search.training.device import prepare_process
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.repeat import Job, train_seed
from search.training.task import load_full_task

THREADS = 1


def train_apart(
    job: Job,
    seeds: Sequence[int],
    *,
    processes: int,
    stop: threading.Event,
    on_epoch: Callable[[int, Epoch], None],
) -> None:
    """Train every seed to its end in processes of their own, on CPUs; results lie in checkpoints.

    Args:
        processes: how many at a time.
        on_epoch: called with seed and epoch as they come.

    Raises:
        StoppedError: `stop` was set; only the current epochs are lost.
        RepeatError: a process died; the others were terminated.
    """
    reports = queue.SimpleQueue[tuple[int, bytes]]()
    waiting, running = list(seeds), dict[int, ChildProcess]()

    def keep(seed: int, line: bytes) -> None:
        reports.put((seed, line))

    try:
        while waiting or running:
            if stop.is_set():
                raise StoppedError
            while waiting and len(running) < processes:
                seed = waiting.pop(0)
                running[seed] = ChildProcess(f"{__name__}:train_one", partial(keep, seed))
                running[seed].call(job, seed)
            stop.wait(WATCH_SECONDS)
            ended = [seed for seed, child in running.items() if child.poll() is not None]
            while not reports.empty():
                seed, line = reports.get()
                on_epoch(seed, Epoch(**json.loads(line)))
            for seed in ended:
                _raise_if_failed(seed, running.pop(seed))
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
            task = load_full_task(
                job.place or job.dataset, job.data_dir, torch.device("cpu"), reading=job.reading
            )
            train_seed(
                job,
                task,
                seed,
                stop=stopping.event,
                on_epoch=lambda epoch: print(json.dumps(dataclasses.asdict(epoch)), file=reports),
            )
        except StoppedError:
            pass
        except (RepeatError, DataError, ArchitectureError, OSError) as error:
            raise RepeatError(f"seed {seed}: {error}") from error
    return stopping.exit_code
