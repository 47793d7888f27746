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
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from data.reading import write_atomically
from models.checks import first_line
from search.analysis.wording import duration
from search.running.pool import WATCH_SECONDS, ChildProcess, default_workers, stop_all
from search.running.trial import is_out_of_memory
from search.running.worker import TRIALS_PER_GPU
from search.spec.extensions import contents, handed_over, register_families, require
from search.terminal.commands import BAD_INPUT, console, log
from search.terminal.progress import can_be_live
from search.terminal.stopping import StopOnSignal
from search.training.device import prepare_process, return_memory
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.repeat import Job, TrainedRun, train_slices
from search.training.task import Task

THREADS = 1  # of a training on a CPU
MAX_DEATHS = 5  # of the Ray tasks of one job
OnEpoch = Callable[[Job, Epoch], None]  # called with each finished epoch of a job


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
    check: Callable[[], None] = lambda: None,
    progress: bool = False,
    ray: str | None = None,
    gpus: float = 0.0,
) -> list[TrainedRun]:
    """Train every job to its end: in parallel on a CPU with several cores, interleaved on a GPU.

    Args:
        stop: set it to stop at the next training step; only the current epochs are lost.
        check: called after each epoch; what it raises ends all trainings.
        progress: whether each epoch is reported on standard error.
        ray: address of the Ray cluster to train on, with `gpus` for each task; None: this machine.

    Raises:
        StoppedError: `stop` was set; the same call resumes.
        RepeatError, CheckpointError: a training died, diverged, or cannot be resumed or saved.
        SpecError: there is no such Ray cluster.
    """
    rest = [job for job in jobs if job.saved()["score"] is None]
    processes = processes_for(len(rest), default_workers(task.device.type))
    at_a_time = TRIALS_PER_GPU if task.device.type == "cuda" else 1
    with shown_progress(jobs) if progress else nullcontext(lambda *_: None) as tell:

        def on_epoch(job: Job, epoch: Epoch) -> None:
            tell(job, epoch)
            check()

        if ray is not None and rest:
            train_on_ray(rest, task, ray, gpus, stop=stop, on_epoch=on_epoch)
        elif processes > 1:
            train_apart(rest, processes=processes, stop=stop, on_epoch=on_epoch)
        trained = train_in_turn(jobs, task, at_a_time=at_a_time, stop=stop, on_epoch=on_epoch)
    if stop.is_set():  # the last epoch is trained, but the test set is not yet evaluated
        raise StoppedError
    return trained


@contextmanager
def shown_progress(jobs: Sequence[Job]) -> Iterator[OnEpoch]:
    """Show a bar on a terminal, else a line per epoch; epochs of interrupted runs count."""
    started, total = time.monotonic(), sum(job.epochs for job in jobs)
    now = before = sum(len(job.saved()["curve"]) for job in jobs)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeElapsedColumn())
    screen = console()
    is_live = can_be_live(screen)
    bar = Progress(TextColumn("{task.description}"), *columns, console=screen, disable=not is_live)
    task = bar.add_task("training", total=total, completed=before)
    if before:
        log(f"{before} of {total} epochs were trained earlier")

    def tell(job: Job, epoch: Epoch) -> None:
        nonlocal now
        now += 1
        left = duration((time.monotonic() - started) / (now - before) * (total - now))
        words = f"training loss {epoch.train_loss:.4f}, about {left} left"
        of = "" if job.candidate is None else f"trial {job.candidate}, fresh "
        if is_live:
            bar.update(task, completed=now, description=f"{of}seed {job.seed}, {words}")
        else:
            log(f"{of}seed {job.seed}: epoch {epoch.epoch} of {job.epochs}, {words}")

    with bar:
        yield tell


def train_apart(
    jobs: Sequence[Job], *, processes: int, stop: threading.Event, on_epoch: OnEpoch
) -> None:
    """Train each in a process of its own on CPUs, `processes` at a time; if one dies, the others
    are terminated. Raises what `train_all` raises."""
    reports = queue.SimpleQueue[tuple[Job, bytes]]()
    waiting, running = deque(jobs), list[tuple[Job, ChildProcess]]()
    try:
        while waiting or running:
            if stop.is_set():
                raise StoppedError
            while waiting and len(running) < processes:
                job = waiting.popleft()

                def heard(line: bytes, job: Job = job) -> None:
                    reports.put((job, line))

                child = ChildProcess(f"{__name__}:train_one", job, on_line=heard)
                running.append((job, child))
            stop.wait(WATCH_SECONDS)
            ended = [one for one in running if one[1].poll() is not None]
            while not reports.empty():
                job, line = reports.get()
                on_epoch(job, Epoch(**json.loads(line)))
            for job, child in ended:
                running.remove((job, child))
                if child.process.returncode == BAD_INPUT:
                    raise RepeatError(
                        f"training seed {job.seed} ended with the error above; fix it, then run "
                        "the same command again to resume"
                    )
                if child.process.returncode != 0:
                    raise RepeatError(
                        f"the process that trained seed {job.seed} died "
                        f"({child.cause_of_death()}); run the same command again to resume from "
                        "its last epoch"
                    )
    finally:
        stop_all(child for _, child in running)


def train_one(job: Job) -> int:
    """What a process runs: one training, with a line on standard output for each epoch."""
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing else may write between the reports
    prepare_process(THREADS)

    def tell(_: Job, epoch: Epoch) -> None:
        print(json.dumps(dataclasses.asdict(epoch)), file=reports)

    with StopOnSignal() as stopping, suppress(StoppedError):
        require(job.spec.extensions, job.spec.families, job.spec.dataset)
        task = job.load(torch.device("cpu"))
        train_in_turn([job], task, stop=stopping, on_epoch=tell)
    return stopping.exit_code


def train_in_turn(
    jobs: Sequence[Job], task: Task, *, at_a_time: int = 1, stop: threading.Event, on_epoch: OnEpoch
) -> list[TrainedRun]:
    """Train them in this process, `at_a_time` interleaved, a slice each in turn.

    If they do not fit into memory together, all resume one by one. Raises what `train_slices` does.
    """
    try:
        return _interleaved(jobs, task, at_a_time, stop, on_epoch)
    except Exception as error:
        if min(at_a_time, len(jobs)) == 1 or not is_out_of_memory(error):
            raise
    return_memory()  # outside the `except` block, where no exception keeps tensors alive
    return _interleaved(jobs, task, 1, stop, on_epoch)


def _interleaved(
    jobs: Sequence[Job], task: Task, at_a_time: int, stop: threading.Event, on_epoch: OnEpoch
) -> list[TrainedRun]:
    waiting, ended = deque(enumerate(jobs)), dict[int, TrainedRun]()
    running = dict[int, Generator[Epoch | None, None, TrainedRun]]()
    while waiting or running:
        while waiting and len(running) < at_a_time:
            index, job = waiting.popleft()
            running[index] = train_slices(job, task, stop=stop)
        for index in list(running):
            try:
                epoch = next(running[index])
            except StopIteration as done:
                ended[index] = done.value
                del running[index]
            else:
                if epoch is not None:
                    on_epoch(jobs[index], epoch)
    return [ended[index] for index in range(len(jobs))]


def train_on_ray(
    jobs: Sequence[Job],
    task: Task,
    address: str,
    gpus: float,
    *,
    stop: threading.Event,
    on_epoch: OnEpoch,
) -> None:
    """Train each as a Ray task, on whichever node has room, until `stop` is set.

    After each epoch a task hands its checkpoint back to this process: training resumes from it, and
    the nodes need no shared folder. Raises what `train_all` raises.
    """
    from search.running.on_ray import cause_of, joined, ray  # only this needs Ray installed

    with joined(address):
        there = ray.remote(
            num_cpus=1, num_gpus=gpus, num_returns="streaming", max_retries=0, max_calls=1
        )(train_there)
        images, deaths = ray.put(task.to(torch.device("cpu"))), Counter[int]()
        files = contents(jobs[0].spec.extensions)  # of one study

        def start(index: int) -> Any:
            path = jobs[index].checkpoint
            saved = path.read_bytes() if path.exists() else None
            return there.remote(jobs[index], files, images, saved, "cuda" if gpus else "cpu")

        waiting = dict[int, Any]()
        try:
            for index in range(len(jobs)):
                waiting[index] = start(index)
            while waiting and not stop.is_set():
                ready, _ = ray.wait(list(waiting.values()), timeout=WATCH_SECONDS)
                for index in [index for index, stream in waiting.items() if stream in ready]:
                    seed = jobs[index].seed
                    try:
                        epoch, checkpoint = ray.get(next(waiting[index]))
                    except StopIteration:
                        del waiting[index]
                    except ray.exceptions.RayError as error:
                        cause = cause_of(error)
                        if isinstance(cause, RepeatError):
                            raise RepeatError(str(cause)) from error
                        deaths[index] += 1
                        if deaths[index] >= MAX_DEATHS:
                            raise RepeatError(
                                f"{MAX_DEATHS} tasks that trained seed {seed} died, the last with "
                                f"{type(cause).__name__}: {first_line(cause)}; the same command "
                                "resumes"
                            ) from error
                        log(f"the task that trained seed {seed} was lost; another one resumes it")
                        waiting[index] = start(index)
                    else:
                        write_atomically(jobs[index].checkpoint, checkpoint)
                        if epoch is not None:
                            on_epoch(jobs[index], epoch)
        finally:  # in a Ray that this process keeps, they would go on
            for stream in waiting.values():
                ray.cancel(stream, force=True)


def train_there(
    job: Job, files: Mapping[str, bytes], task: Task, checkpoint: bytes | None, device: str
) -> Iterator[tuple[Epoch | None, bytes]]:
    """What a Ray task runs: yields each epoch with the checkpoint after it, then None with the
    last. `files`: the study's extensions, see `contents`."""
    prepare_process(THREADS if device == "cpu" else None)
    with handed_over(files), tempfile.TemporaryDirectory() as folder:
        register_families(job.spec.families)
        here = dataclasses.replace(job, checkpoints=Path(folder))
        path = here.checkpoint
        if checkpoint is not None:
            path.write_bytes(checkpoint)
        for epoch in train_slices(here, task.to(torch.device(device))):
            if epoch is not None:
                yield epoch, path.read_bytes()
        yield None, path.read_bytes()
