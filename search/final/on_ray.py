"""The trainings of finalize as Ray tasks: one task each, on whichever node has room.

After each epoch a task hands its checkpoint back to the process that waits for it. If the node is
lost or the command interrupted, training resumes there, and the nodes need no shared folder.
"""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from data.reading import write_atomically
from models.checks import first_line
from search.final.runs import THREADS, OnEpoch
from search.running.on_ray import cause_of, joined, ray
from search.running.pool import WATCH_SECONDS
from search.spec.extensions import contents, handed_over, register_families
from search.terminal.commands import log
from search.training.device import prepare_process
from search.training.epoch import Epoch, RepeatError
from search.training.repeat import Job, train_slices
from search.training.task import Task

MAX_DEATHS = 5  # of the tasks of one job


def train_there(
    job: Job,
    files: Mapping[str, bytes],
    task: Task,
    checkpoint: bytes | None,
    device: str,
) -> Iterator[tuple[Epoch | None, bytes]]:
    """What a task runs: yields each epoch with the checkpoint after it, then None with the last.

    Args:
        files: the study's extensions, see `contents`.
    """
    prepare_process(THREADS if device == "cpu" else None)
    with handed_over(files), tempfile.TemporaryDirectory() as folder:
        register_families(job.spec.families)
        here = replace(job, checkpoints=Path(folder))
        path, epochs = here.checkpoint, list[Epoch]()
        if checkpoint is not None:
            path.write_bytes(checkpoint)
        for _ in train_slices(here, task.to(torch.device(device)), on_epoch=epochs.append):
            if epochs:
                yield epochs.pop(), path.read_bytes()
        yield None, path.read_bytes()


def train_on_ray(
    jobs: Sequence[Job],
    task: Task,
    address: str,
    gpus: float,
    *,
    stop: threading.Event,
    on_epoch: OnEpoch,
) -> None:
    """Train every job to its end, or until `stop` is set.

    Args:
        address: as `search.running.on_ray.joined` takes it.
        gpus: for each task; 0: it trains on a CPU.

    Raises:
        SpecError: there is no such Ray cluster.
        RepeatError: a job cannot be trained, or its tasks keep dying.
    """
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
                            on_epoch(index, epoch)
        finally:  # in a Ray that this process keeps, they would go on
            for stream in waiting.values():
                ray.cancel(stream, force=True)
