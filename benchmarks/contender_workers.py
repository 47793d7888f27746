"""Worker processes that start together and are timed by one clock; speeds and ratios.

Each contender has its own processes, so that no setting of one (threads, allocator) helps or
hinders another. While others are measured they wait without using the CPU.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

import torch

from benchmarks.contenders import Contender, Runner, make_runner
from benchmarks.ray_tune import RayTiming
from benchmarks.record import spread
from benchmarks.workload import Workload
from search.training.device import prepare_process, return_memory


class ContenderError(RuntimeError):
    """A contender that failed: which one, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What one process did; moments in seconds of the machine's monotonic clock.

    Attributes:
        started, trained, validated: start, end of training, end of the validation after it.
        images: trained on, by all trials.
        epochs: per trial.
        peak_bytes: peak GPU memory of tensors; 0 on a CPU.
    """

    started: float
    trained: float
    validated: float
    images: int
    epochs: int
    peak_bytes: int


def time_runner(runner: Runner, least_seconds: float, device: torch.device) -> Timing:
    """Train whole epochs for at least `least_seconds`, then validate once."""
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


class ContenderWorkers:
    """The processes of one contender."""

    def __init__(self, contender: Contender, least_seconds: float) -> None:
        # Not daemons, as a multiprocessing.Pool's are: those may not have a DataLoader's processes.
        context = multiprocessing.get_context("spawn")
        start = context.Barrier(contender.processes)
        self.contender, self._work = contender, partial(_time, contender, least_seconds)
        self._pool = ProcessPoolExecutor(contender.processes, context, _begin, (contender, start))

    def time(self, job: Workload) -> list[Timing]:
        """Let all processes train the job at the same time.

        Raises:
            ContenderError: one of them failed or vanished.
        """
        timings = [self._pool.submit(self._work, job) for _ in range(self.contender.processes)]
        for error in (one.exception() for one in timings):
            if error is not None and not isinstance(error, threading.BrokenBarrierError):
                raise ContenderError(f"{self.contender.name}: {error}") from error
        return [one.result() for one in timings]

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


_start: Barrier  # of a contender's process


def _begin(contender: Contender, start: Barrier) -> None:
    """Prepare a new process."""
    global _start
    _start = start
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once, without a traceback
    # Spawned processes spawn their own by default; DataLoaders should use the platform's default.
    multiprocessing.set_start_method(None, force=True)
    if contender.style == "ours":
        prepare_process(contender.threads)
    elif contender.threads is not None:
        torch.set_num_threads(contender.threads)


def _time(contender: Contender, least_seconds: float, job: Workload) -> Timing:
    """Get ready, wait for the other processes, and train."""
    device = torch.device(job.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        runner = make_runner(contender, job)
    except BaseException:
        _start.abort()  # the others need not wait
        raise
    _start.wait()
    timing = time_runner(runner, least_seconds, device)
    del runner
    return_memory()
    return timing


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Of one contender in one round.

    Attributes:
        images_per_second: in training, all trials together.
        epoch_trials_per_hour: epochs with their validation, all trials together.
        peak_bytes: the highest peak GPU memory of one process's tensors; 0 on a CPU.
    """

    images_per_second: float
    epoch_trials_per_hour: float
    peak_bytes: int = 0


# Of the rounds of one column, by the contender's name.
Rounds = Mapping[str, Sequence[Speed]]


def speed(timings: Sequence[Timing], trials: int) -> Speed:
    """The speed of processes that trained side by side, `trials` in all.

    From the first start to the last end, so that no process gains from the time in which it had the
    machine to itself.
    """
    training = max(t.trained for t in timings) - min(t.started for t in timings)
    validation = max(t.validated - t.trained for t in timings)
    epochs = min(t.epochs for t in timings)
    return Speed(
        images_per_second=sum(t.images for t in timings) / training,
        epoch_trials_per_hour=3600 * trials / (training / epochs + validation),
        peak_bytes=max(t.peak_bytes for t in timings),
    )


def ray_speed(timing: RayTiming, at_once: int) -> Speed:
    """Images per training time only; epochs per time from the first start to the last end."""
    return Speed(
        images_per_second=at_once * timing.images / timing.training_seconds,
        epoch_trials_per_hour=3600 * timing.epochs / timing.seconds,
    )


def column_summary(rounds: Rounds) -> dict[str, Any]:
    """Both speeds and the memory of each contender, as in the JSON."""
    found: dict[str, Any] = {
        figure: {
            name: spread([getattr(speed, figure) for speed in speeds])
            for name, speeds in rounds.items()
        }
        for figure in ("images_per_second", "epoch_trials_per_hour")
    }
    peaks = {name: max(it.peak_bytes for it in speeds) for name, speeds in rounds.items()}
    return {**found, "peak_bytes": peaks}


def ratios(rounds: Rounds, contenders: Sequence[Contender]) -> dict[str, Any]:
    """Ours against the others, round by round.

    In every round the denominator is the fastest of its kind in that round.

    - vs_dataloader: ours as studies run (several trials at a time: workers on a CPU, packed on
      a GPU) / DataLoader, one trial.
    - vs_dataloader_bfloat16: the same with the DataLoader style in bfloat16 too, which is not in
      its documentation: the remaining difference is due to the design only.
    - alone_vs_dataloader: ours / DataLoader, one trial each.
    - vs_dataloader_parallel: ours as studies run / DataLoader, as many processes.
    - vs_ray: ours as studies run / the DataLoader style under Ray Tune.
    - epoch_trials_vs_dataloader, epoch_trials_vs_ray: the same in epoch-trials per hour.
    """
    present = [contender for contender in contenders if contender.name in rounds]
    studies = [c.name for c in present if c.style == "ours" and c.at_once > 1] or ["ours_alone"]
    one = [c.name for c in present if c.style == "dataloader" and c.at_once == 1 and not c.bfloat16]
    pairs = {
        "vs_dataloader": (studies, one),
        "vs_dataloader_bfloat16": (studies, ["dataloader_bfloat16"]),
        "alone_vs_dataloader": (["ours_alone"], one),
        "vs_dataloader_parallel": (studies, ["dataloader_parallel"]),
        "vs_ray": (studies, ["ray_dataloader"]),
    }
    found = {}
    for name, (ours, theirs) in pairs.items():
        if all(other in rounds for other in theirs):
            found[name] = spread(_ratios(rounds, ours, theirs, "images_per_second"))
    for name in ("vs_dataloader", "vs_ray"):
        if name in found:
            values = _ratios(rounds, *pairs[name], "epoch_trials_per_hour")
            found[f"epoch_trials_{name}"] = spread(values)
    return found


def _ratios(rounds: Rounds, ours: Sequence[str], theirs: Sequence[str], figure: str) -> list[float]:
    """The best of ours over the best of theirs, for each round.

    Which of ours is the best is decided once, by the medians: a study does not choose again.
    """

    def values(name: str) -> list[float]:
        return [getattr(speed, figure) for speed in rounds[name]]

    best = max(ours, key=lambda name: spread(values(name))["median"])
    return [
        mine / max(others) for mine, *others in zip(values(best), *map(values, theirs), strict=True)
    ]
