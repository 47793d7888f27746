"""Workers of a study as Ray tasks, on this machine or on the nodes of a cluster.

Ray places them and assigns its GPUs. Totals, leases and resuming stay with the database: a task
runs the same loop as a local worker. Ray is imported only with this module.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

from models.checks import first_line
from search.running.pool import LEAVE_SECONDS, MAX_DEFAULT_WORKERS, WorkerPool
from search.running.request import Request
from search.running.run import Run
from search.running.worker import work_for_study
from search.spec.domains import SpecError
from search.spec.extensions import contents, handed_over
from search.store import OutageError, StorageError, is_sqlite, read_url
from search.store.claims import COUNTED
from search.store.database import is_transient, with_retry
from search.terminal.commands import BAD_INPUT, OURS, START_AGAIN, log, one_line

# Before Ray is loaded: its makers get no usage statistics; we tell tasks that they have no GPU.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
try:
    import ray as ray
except ImportError as error:
    raise SpecError("ray", "--ray needs Ray; pip install 'cnn-search[ray]'") from error

JOIN_SECONDS = 5.0  # until a cluster must answer
LONGEST_BACKOFF = 30.0  # seconds before a task that died is started again
Handed = tuple[Mapping[str, Any], Mapping[str, bytes]]


def hand(run: Run, arguments: Mapping[str, Any]) -> Handed:
    """What tasks need to work on this study, including these arguments.

    It is one object in Ray's store, so that no log and no dashboard shows its content: arguments of
    `join_study`, among them the database's URL and the study's images; and the user's own Python
    files, by the study's names for them. Paths are absolute, because tasks run in Ray's folder.
    """
    here: dict[str, Any] = {"task": run.task, "runs_dir": run.folder.parent.absolute()}
    url = run.db.engine.url
    if is_sqlite(url) and url.database:
        file = url.set(database=str(Path(url.database).absolute()))
        here["storage"] = file.render_as_string(hide_password=False)
    if arguments.get("checkpoints") is not None and isinstance(run.checkpoints, Path):
        here["checkpoints"] = str(run.checkpoints.parent.absolute())
    return {**arguments, **here}, contents(run.spec.extensions)


def work(handed: Handed, study: str, device: str) -> tuple[int, str]:
    """The body of a task. Returns its exit code, and why it could not continue, if so."""
    arguments, files = handed
    try:
        with handed_over(files):
            return work_for_study({**arguments, "study": study, "device": device}), ""
    except ValueError as error:
        if type(error).__module__.partition(".")[0] not in OURS:
            raise
        code = 1 if is_transient(error.__cause__) else BAD_INPUT  # 1: no database from that node
        code = START_AGAIN if isinstance(error, OutageError) else code
        return code, f"on {ray.util.get_node_ip_address()}: {one_line(str(error))}"


@contextmanager
def joined(address: str) -> Iterator[None]:
    """Connect this process to that Ray for the block; if it is already in a Ray, keep that one."""
    before = signal.getsignal(signal.SIGTERM)
    with ExitStack() as leaving:
        if not ray.is_initialized():
            local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
            host, _, port = address.removeprefix("ray://").rpartition(":")
            try:
                if host and port.isdigit():  # Ray itself would try for minutes
                    socket.create_connection((host, int(port)), JOIN_SECONDS).close()
                ray.init(address, log_to_driver=False, logging_level="ERROR", **local)
            except Exception as error:  # ConnectionError, RuntimeError or ValueError: it varies
                problem = f"cannot join Ray at {address!r} ({one_line(first_line(error))})"
                remedy = "start it with ray start --head, or give --ray local"
                raise SpecError("ray", f"{problem}; {remedy}") from error
            leaving.callback(ray.shutdown)
        # Ray prints what happens to its nodes to standard output, which is for results.
        leaving.enter_context(redirect_stdout(sys.stderr))
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, before)  # Ray has replaced it
        yield


def cause_of(error: BaseException) -> BaseException:
    """What a task raised, from Ray's error about it; the error itself if its process was lost."""
    return getattr(error, "cause", None) or error


class RayTask:
    """A worker that Ray runs somewhere, with the methods of `ChildProcess` that a pool uses."""

    ref: Any = None  # of its result, once it is submitted

    def __init__(self, submit: Callable[[], Any], delay: float) -> None:
        self._submit, self._due = submit, time.monotonic() + delay

    def poll(self) -> int | None:
        if self.ref is None:
            if time.monotonic() >= self._due:
                self.ref = self._submit()
            return None
        if not ray.wait([self.ref], timeout=0)[0]:
            return None
        try:
            code, problem = ray.get(self.ref)
        except ray.exceptions.RayError as error:
            cause = cause_of(error)
            code, problem = 1, f"{type(cause).__name__}: {first_line(cause).partition('. ')[0]}"
        self._cause = problem or f"exit code {code}"
        if code == BAD_INPUT and problem:
            log(problem)
        elif code:
            log(f"a worker was lost ({self._cause}); its trials will be resumed")
        return int(code)

    def cause_of_death(self) -> str:
        return self._cause


class RayPool(WorkerPool):
    """The workers of a study on the cluster that this process has joined."""

    def __init__(self, request: Request, arguments: Mapping[str, Any]) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        url, address = read_url(request.storage), request.ray or "local"
        if url is not None and is_sqlite(url) and (len(nodes) > 1 or "://" in address):
            raise StorageError(
                f"{request.storage} serves one machine, but Ray at {address} has {len(nodes)} "
                "nodes; give --storage postgresql://USER@HOST/NAME"
            )
        share = {"CPU": request.cpus_per_worker, "GPU": request.gpus_per_worker}
        places = sum(
            int(min(node.get(kind, 0.0) / each for kind, each in share.items() if each))
            for node in nodes
        )
        default = 1 if "seed" in request.options else min(places, MAX_DEFAULT_WORKERS)
        count = request.workers or max(1, default)
        threads = max(1, int(request.cpus_per_worker))
        devices = ["cuda" if request.gpus_per_worker else "cpu"] * count
        super().__init__(devices, {**arguments, "threads": threads})
        self.words = [f"workers on Ray: {count}, on nodes: {len(nodes)}"]
        if places < count:
            self.words.append(f"{count - places} of them wait until there is room")
        self._task = ray.remote(
            num_cpus=request.cpus_per_worker,
            num_gpus=request.gpus_per_worker,
            max_retries=0,  # the pool starts it again
            max_calls=1,  # a process each, like a local worker
        )(work)

    def train(self, run: Run) -> None:
        self._handed = ray.put(hand(run, self._arguments))
        trials = run.study.study.get_trials
        ended = with_retry(run.db, lambda: trials(deepcopy=False, states=COUNTED))
        del self.devices[max(1, run.spec.trials - len(ended)) :]
        super().train(run)

    def _start(self, device: str, study: str) -> RayTask:
        submit = partial(self._task.remote, handed=self._handed, study=study, device=device)
        return RayTask(submit, min(LONGEST_BACKOFF, 2.0**self._deaths - 1))

    def ask_to_stop(self) -> None:
        """Only `stop` does: cancelled twice, a task would be interrupted while it releases them."""

    def stop(self) -> None:
        """Cancelling interrupts a task as Ctrl-C does, so that it releases its trials."""
        if refs := [task.ref for _, task in self._running if task.ref is not None]:
            for ref in refs:
                ray.cancel(ref, force=False)
            for ref in ray.wait(refs, num_returns=len(refs), timeout=LEAVE_SECONDS)[1]:
                ray.cancel(ref, force=True)


@contextmanager
def ray_pool(request: Request, arguments: Mapping[str, Any]) -> Iterator[RayPool]:
    """A pool on the request's cluster, which this process joins for the block."""
    with joined(request.ray or "local"):
        yield RayPool(request, arguments)
