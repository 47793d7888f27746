"""Several seeds at a time, a process with one thread each: a small network gains little by threads.

A run's bits do not depend on how many run beside it: on a CPU each has one thread, come what may.
A process gets its job on standard input and reports epochs on standard output, a line each.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from data.errors import DataError
from models import ArchitectureError
from search.running.fresh import ErrorOutput, cause_of_death, start_fresh
from search.running.stopping import StopOnSignal, stop_with_parent
from search.running.team import wait_or_kill
from search.training.device import prepare_process
from search.training.epoch import Epoch, RepeatError, StoppedError
from search.training.repeat import Job, require_content, train_seed
from search.training.task import load_full_task

LEAVE_SECONDS = 4.0  # what a process has after SIGTERM
WATCH_SECONDS = 0.2
THREADS = 1


@dataclass(eq=False)
class _Process:
    seed: int
    process: subprocess.Popen[bytes]
    errors: ErrorOutput
    unread: bytes = field(default=b"")


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
        StoppedError: `stop` was set; every process was sent home, nothing but epochs under way is
            lost.
        RepeatError: a process died; the others were sent home.
    """
    waiting, running = list(seeds), list[_Process]()
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or running:
                if stop.is_set():
                    raise StoppedError
                while waiting and len(running) < processes:
                    one = _start(job, waiting.pop(0))
                    running.append(one)
                    selector.register(_reports(one), selectors.EVENT_READ, one)
                ready = selector.select(WATCH_SECONDS)
                for one in running:
                    one.errors.pass_on()
                for key, _ in ready:
                    one = key.data
                    chunk = os.read(key.fd, 1 << 16)
                    one.unread += chunk
                    *lines, one.unread = one.unread.split(b"\n")
                    for line in lines:
                        on_epoch(one.seed, Epoch(**json.loads(line)))
                    if not chunk:  # the end of its reports: it ends, or has ended
                        selector.unregister(key.fileobj)
                        running.remove(one)
                        _see_off(one)
        finally:
            _send_home(running)


def _start(job: Job, seed: int) -> _Process:
    errors = ErrorOutput()
    process = start_fresh(__name__, str(os.getpid()), errors=errors, stdout=subprocess.PIPE)
    assert process.stdin is not None
    try:
        process.stdin.write(pickle.dumps((job, seed)))
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died at once, which is seen where its reports end
    return _Process(seed=seed, process=process, errors=errors)


def _reports(one: _Process) -> Any:
    assert one.process.stdout is not None
    return one.process.stdout


def _see_off(one: _Process) -> None:
    _reports(one).close()
    code = one.process.wait()
    last_line = one.errors.close()
    if code == 0:
        return
    if code == 2:
        raise RepeatError(
            f"training seed {one.seed} ended with the error above; mend that, and the same command "
            "goes on"
        )
    raise RepeatError(
        f"the process that trained seed {one.seed} died ({cause_of_death(code, last_line)}); the "
        "same command goes on from its last epoch"
    )


def _send_home(running: Sequence[_Process]) -> None:
    """Ask all to leave; end those that do not in time."""
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + LEAVE_SECONDS
    for one in running:
        wait_or_kill(one.process, deadline)
        one.errors.close()
        _reports(one).close()


def serve() -> None:
    """What a process does: train one seed and leave; 2 after an error that it has told."""
    stop_with_parent(int(sys.argv[1]))
    job: Job
    job, seed = pickle.loads(sys.stdin.buffer.read())  # written by the process that started this
    # Nothing else may write between the reports.
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with StopOnSignal() as stopping:
        prepare_process(THREADS)

        def report(epoch: Epoch) -> None:
            reports.write(json.dumps(dataclasses.asdict(epoch)) + "\n")

        try:
            cpu = torch.device("cpu")
            place = job.place or job.dataset
            task = load_full_task(place, job.data_dir, cpu, reading=job.reading)
            require_content(job.content, task)
            train_seed(job, task, seed, stop=stopping.event, on_epoch=report)
        except StoppedError:
            sys.exit(stopping.exit_code)
        except (RepeatError, DataError, ArchitectureError, OSError) as error:
            print(f"seed {seed}: {error}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    serve()
