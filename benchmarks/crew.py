"""Processes that wait, are set to work together, and are timed by one clock.

Each contender has processes of its own, so that no setting of one (threads, allocator) helps or
hinders another. While others are measured they wait and take no time.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import cast

import torch

from benchmarks.contenders import Contender, Runner, make_runner
from benchmarks.workload import Job
from search.training.device import prepare_process, return_memory

PATIENCE_SECONDS = 3600.0


class ContenderError(RuntimeError):
    """A contender that failed: which one, and its traceback."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What one process did; moments in seconds of the machine's monotonic clock.

    Attributes:
        started, trained, validated: begin, end of the training, end of the validation after it.
        images: trained on, by all trials.
        epochs: of each trial.
        peak_bytes: most of the GPU's memory that tensors took; 0 on a CPU.
    """

    started: float
    trained: float
    validated: float
    images: int
    epochs: int
    peak_bytes: int


def time_runner(runner: Runner, least_seconds: float, device: torch.device) -> Timing:
    """Train whole epochs for at least so long, then validate once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.monotonic()
    images = epochs = 0
    while epochs == 0 or time.monotonic() - started < least_seconds:
        images += runner.train_epoch()
        epochs += 1
    trained = time.monotonic()
    runner.validate()
    return Timing(
        started=started,
        trained=trained,
        validated=time.monotonic(),
        images=images,
        epochs=epochs,
        peak_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
    )


class Crew:
    """The processes of one contender."""

    def __init__(self, contender: Contender, least_seconds: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.contender = contender
        self._members: list[tuple[SpawnProcess, Connection]] = []
        for _ in range(contender.processes):
            ours, theirs = context.Pipe()
            # Not daemons: those may not have children, and a DataLoader has.
            process = context.Process(target=_serve, args=(theirs, contender, least_seconds))
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def time(self, job: Job) -> list[Timing]:
        """Let all processes train the job at the same time.

        Raises:
            ContenderError: one of them failed or vanished.
        """
        self._tell(job)
        for _, connection in self._members:
            self._hear(connection)  # is ready
        self._tell("go")
        return [cast(Timing, self._hear(connection)) for _, connection in self._members]

    def _tell(self, what: object) -> None:
        for _, connection in self._members:
            connection.send(what)

    def _hear(self, connection: Connection) -> object:
        try:
            if not connection.poll(PATIENCE_SECONDS):
                raise ContenderError(f"{self.contender.name}: no answer for an hour")
            answer: object = connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise ContenderError(f"{self.contender.name}: a process vanished") from error
        if isinstance(answer, ContenderError):
            raise answer
        return answer

    def close(self) -> None:
        for _, connection in self._members:
            connection.close()  # which ends a process that waits
        for process, _ in self._members:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
                process.join()


def _serve(connection: Connection, contender: Contender, least_seconds: float) -> None:
    """A process's life: a job, ready, go, its timing, and again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which then ends us
    # A spawned process would spawn its own too; a DataLoader's are to start as the platform has it.
    multiprocessing.set_start_method(None, force=True)
    if contender.style == "ours":
        prepare_process(contender.threads)
    elif contender.threads is not None:
        torch.set_num_threads(contender.threads)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            device = torch.device(job.device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            runner = make_runner(contender, job)
            connection.send("ready")
            connection.recv()
            connection.send(time_runner(runner, least_seconds, device))
            del runner
            return_memory()
        except EOFError:
            return
        except Exception:
            connection.send(ContenderError(f"{contender.name}:\n{traceback.format_exc()}"))
            return
