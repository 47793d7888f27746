"""The trainings of finalize, several at a time, and their progress.

A small network gains little from threads and does not fill a GPU, so a CPU gets a process with
one thread for each training, and a GPU one process that interleaves them. A training's bits do not
depend on how many run beside it. Processes and Ray tasks leave their results in checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data.errors import DataError
from models import ArchitectureError
from search.analysis.wording import duration
from search.running.pool import WATCH_SECONDS, ChildProcess, default_workers, stop_all
from search.running.trial import is_out_of_memory
from search.running.worker import TRIALS_PER_GPU
from search.spec.domains import SpecError
from search.spec.extensions import require
from search.terminal.commands import BAD_INPUT, console, log
from search.terminal.progress import can_be_live
from search.terminal.stopping import StopOnSignal
from search.training.device import prepare_process, return_memory
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.repeat import Job, TrainedRun, train_slices
from search.training.task import Task

THREADS = 1  # of a training on a CPU
OnEpoch = Callable[[int, Epoch], None]  # called with a job's index and each finished epoch


def processes_for(jobs: int, cores: int) -> int:
    """Number of training processes: less than twice the cores, so that no core idles at the end.

    Three trainings on two cores take 1.5 times as long as one if they share the cores, else twice.
    """
    return math.ceil(jobs / max(1, jobs // cores))


def train_all(
    jobs: Sequence[Job],
    task: Task,
    *,
    stop: threading.Event,
    progress: bool = False,
    ray: str | None = None,
    gpus: float = 0.0,
) -> list[TrainedRun]:
    """Train every job to its end: in parallel on a CPU with several cores, interleaved on a GPU.

    Args:
        stop: set it to stop at the next training step; only the current epochs are lost.
        progress: whether each epoch is reported on standard error.
        ray: address of the Ray cluster to train on; None: this machine.
        gpus: for each Ray task.

    Raises:
        StoppedError: `stop` was set; the same call resumes.
        RepeatError: a training died or diverged.
        SpecError: there is no such Ray cluster.
    """
    kind = task.device.type
    processes = processes_for(len(jobs), default_workers(kind))
    at_a_time = TRIALS_PER_GPU if kind == "cuda" else 1
    with shown_progress(jobs) if progress else nullcontext(lambda *_: None) as on_epoch:
        if ray is not None:
            from search.final.on_ray import train_on_ray  # only this needs Ray installed

            train_on_ray(jobs, task, ray, gpus, stop=stop, on_epoch=on_epoch)
        elif processes > 1:
            train_apart(jobs, processes=processes, stop=stop, on_epoch=on_epoch)
        trained = train_in_turn(jobs, task, at_a_time=at_a_time, stop=stop, on_epoch=on_epoch)
    if stop.is_set():  # the last epoch is trained, but the test set is not yet evaluated
        raise StoppedError
    return trained


@contextmanager
def shown_progress(jobs: Sequence[Job]) -> Iterator[OnEpoch]:
    """Show their progress: a bar on a terminal, else a line per epoch.

    Epochs from earlier, interrupted runs count.
    """
    done = [len(job.saved()["curve"]) for job in jobs]
    names = [
        f"seed {job.seed}"
        if job.candidate is None
        else f"trial {job.candidate}, fresh seed {job.seed}"
        for job in jobs
    ]
    started, before, total = time.monotonic(), sum(done), sum(job.epochs for job in jobs)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn())
    screen = console()
    is_live = can_be_live(screen)
    bar = Progress(TextColumn("{task.description}"), *columns, console=screen, disable=not is_live)
    task, now = bar.add_task("training", total=total, completed=before), before
    for job, name, count in zip(jobs, names, done, strict=True):
        if count:
            log(f"{name}: {count} of {job.epochs} epochs were trained earlier")

    def tell(index: int, epoch: Epoch) -> None:
        nonlocal now
        now += 1
        left = duration((time.monotonic() - started) / (now - before) * (total - now))
        words = f"training loss {epoch.train_loss:.4f}, about {left} left"
        if is_live:
            bar.update(task, completed=now, description=f"{names[index]}, {words}")
        else:
            log(f"{names[index]}: epoch {epoch.epoch} of {jobs[index].epochs}, {words}")

    with bar:
        yield tell


def train_apart(
    jobs: Sequence[Job], *, processes: int, stop: threading.Event, on_epoch: OnEpoch
) -> None:
    """Train each in a process of its own on CPUs, `processes` at a time; if one dies, the others
    are terminated. Raises what `train_all` raises."""
    reports = queue.SimpleQueue[tuple[int, bytes]]()
    waiting, running = list(range(len(jobs))), dict[int, ChildProcess]()

    def keep(index: int, line: bytes) -> None:
        reports.put((index, line))

    try:
        while waiting or running:
            if stop.is_set():
                raise StoppedError
            while waiting and len(running) < processes:
                index = waiting.pop(0)
                running[index] = ChildProcess(f"{__name__}:train_one", partial(keep, index))
                running[index].call(jobs[index])
            stop.wait(WATCH_SECONDS)
            ended = [index for index, child in running.items() if child.poll() is not None]
            while not reports.empty():
                index, line = reports.get()
                on_epoch(index, Epoch(**json.loads(line)))
            for index in ended:
                seed, child = jobs[index].seed, running.pop(index)
                if child.process.returncode == BAD_INPUT:
                    raise RepeatError(
                        f"training seed {seed} ended with the error above; fix it, then run the "
                        "same command again to resume"
                    )
                if child.process.returncode != 0:
                    raise RepeatError(
                        f"the process that trained seed {seed} died ({child.cause_of_death()}); "
                        "run the same command again to resume from its last epoch"
                    )
    finally:
        stop_all(running.values())


def train_one(job: Job) -> int:
    """What a process runs: one training, with a line on standard output for each epoch."""
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else may write between the reports
    prepare_process(THREADS)
    spec = job.spec
    with StopOnSignal() as stopping, suppress(StoppedError):
        try:
            require(spec.extensions, spec.families, spec.dataset)
            train_in_turn(
                [job],
                job.load(torch.device("cpu")),
                stop=stopping.event,
                on_epoch=lambda _, it: print(json.dumps(dataclasses.asdict(it)), file=reports),
            )
        except (RepeatError, DataError, SpecError, ArchitectureError, OSError) as error:
            raise RepeatError(f"seed {job.seed}: {error}") from error
    return stopping.exit_code


def train_in_turn(
    jobs: Sequence[Job],
    task: Task,
    *,
    at_a_time: int = 1,
    stop: threading.Event,
    on_epoch: OnEpoch,
) -> list[TrainedRun]:
    """Train them in this process, `at_a_time` interleaved, a slice each in turn.

    If they do not fit into memory together, they resume from their checkpoints one by one. Raises
    what `train_slices` raises.
    """
    waiting, ended = list(range(len(jobs))), dict[int, TrainedRun]()
    running = deque[tuple[int, Generator[None, None, TrainedRun]]]()
    while waiting or running:
        while waiting and len(running) < at_a_time:
            index = waiting.pop(0)
            told = partial(on_epoch, index)
            running.append((index, train_slices(jobs[index], task, stop=stop, on_epoch=told)))
        index, slices = running.popleft()
        try:
            next(slices)
        except StopIteration as done:
            ended[index] = done.value
            continue
        except Exception as error:
            if not (running and is_out_of_memory(error)):
                raise
        else:
            running.append((index, slices))
            continue
        # Outside the `except` block no exception keeps tensors alive.
        waiting, at_a_time = sorted([index, *(it[0] for it in running), *waiting]), 1
        while running:
            running.pop()[1].close()
        del slices
        return_memory()
    return [ended[index] for index in range(len(jobs))]
