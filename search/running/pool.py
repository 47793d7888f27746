"""Child processes on this machine: started, listened to, replaced, stopped.

Each is a new Python process. A fork of this one could use none of a notebook's threads, open
databases and GPU contexts; multiprocessing's `spawn` and `forkserver` run the user's own script
again in each child, and `forkserver` looks for our packages in the current folder first.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from search.store import OutageError, StudyBrokenError
from search.store.database import outages_told
from search.store.records import count_reports
from search.terminal.commands import BAD_INPUT, START_AGAIN
from search.training.device import available_cores

if TYPE_CHECKING:
    from search.running.run import Run

SCRIPT = Path(__file__).with_name("bootstrap.py")
MOST_QUOTED = 300  # characters of a last line
LEAVE_SECONDS = 10.0  # that a process gets to stop by itself: a busy machine may need several
KILLED = -9  # exit code on systems that have SIGKILL
WATCH_SECONDS = 0.2
MAX_DEATHS = 10  # in a row, with no report of an epoch between them
MAX_DEFAULT_WORKERS = 8


def default_workers(device: str, gpus: int = 1) -> int:
    """How many local processes train best: one per GPU; on a CPU one per core, at most 8.

    Two threads that share the layers of a small network were 1.87 times as fast as one on a quiet
    machine, and slower than one if something else ran too; two processes are 2 times as fast in
    any case. With more than 8, the sampler would propose too many trials without their results.
    """
    return min(MAX_DEFAULT_WORKERS, available_cores()) if device == "cpu" else gpus


def threads_for(workers: int) -> int:
    """Threads of each worker, so that together they do not exceed the cores."""
    return max(1, available_cores() // workers)


class ChildProcess:
    """A Python process that calls a function, with this process's `sys.path` and packages.

    Ctrl-C does not reach it; it is terminated when this process ends, for whatever reason. Its
    standard error is copied to ours.

    Args:
        function: `package.module:name`; its return value is the exit code.
        arguments: the function's.
        on_line: called, in a thread, with each line of its standard output.
    """

    def __init__(
        self,
        function: str,
        *arguments: object,
        on_line: Callable[[bytes], object] = lambda _: None,
    ) -> None:
        self._last_line = "it said nothing"  # of standard error
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT), function],
            # Ctrl-C must not reach it; Windows only knows the second of these.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        streams = {self.process.stdout: on_line, self.process.stderr: self._pass_on}
        self._threads = [
            threading.Thread(target=_listen, args=heard, daemon=True) for heard in streams.items()
        ]
        for thread in self._threads:
            thread.start()
        assert self.process.stdin is not None
        self._input = self.process.stdin
        # It has died, which `poll` reports; Windows has no BrokenPipeError.
        with suppress(OSError):
            for content in ((list(map(str, sys.path)), sys.argv[0]), arguments):
                pickle.dump(content, self._input)
            self._input.flush()

    def ask_to_stop(self) -> None:
        """Send its function a SIGTERM, by closing its standard input."""
        with suppress(OSError):
            self._input.close()

    def _pass_on(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        print(text, end="", file=sys.stderr, flush=True)
        self._last_line = text.strip()[:MOST_QUOTED] or self._last_line

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it, once the rest of its output is read."""
        code = self.process.poll()
        if code is not None:
            for thread in self._threads:
                thread.join(1.0)
            self.ask_to_stop()
        return code

    def cause_of_death(self) -> str:
        """`exit code 1: ImportError: ...`; if the system killed it, the likely reason."""
        code = self.process.returncode
        if code == KILLED:
            return "SIGKILL: is there enough memory?"
        ending = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"{ending}: {self._last_line}"


def _listen(stream: IO[bytes], heard: Callable[[bytes], object]) -> None:
    with stream:
        for line in stream:
            heard(line)


def stop_all(children: Iterable[ChildProcess]) -> None:
    """Ask processes to stop, and kill those that do not stop in time."""
    children = list(children)
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + LEAVE_SECONDS
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        child.poll()


class WorkerPool:
    """The workers of a study on this machine.

    Args:
        devices: one for each worker.
        arguments: for `search.running.worker.join_study`, the same for all workers.
    """

    def __init__(self, devices: list[str], arguments: Mapping[str, Any]) -> None:
        self.devices = devices
        threads = arguments.get("threads", 1)
        self.words = [f"workers: {len(devices)}, threads each: {threads}"] if devices else []
        self._arguments = arguments
        self._running: list[tuple[str, Any]] = []
        self._reports = self._deaths = 0  # deaths since an epoch was last reported

    def _start(self, device: str, study: str) -> Any:
        given = {**self._arguments, "device": device, "study": study}
        return ChildProcess("search.running.worker:work_for_study", given)

    def train(self, run: Run) -> None:
        """Let them train the study's trials until it has its total, or `stop` is set; then stop.

        Raises:
            StudyBrokenError: they keep dying before they finish an epoch, or one met an error that
                the user must fix (it has said so on standard error).
            StudyGoneError: the study was deleted, or its database or folder removed.
        """
        over = threading.Event()
        threading.Thread(target=self._ask_once, args=(run.stop, over), daemon=True).start()
        try:
            for device in self.devices:
                self._running.append((device, self._start(device, run.study.name)))
            while not run.stop.is_set() and self._watch(run):
                run.stop.wait(WATCH_SECONDS)
                run.on_change()
                run.check()
                with suppress(SQLAlchemyError):  # workers wait for a database that is unavailable
                    run.study.check()
        except StudyBrokenError:
            run.check()  # a worker that finds its folder gone leaves it to this process to say so
            raise
        finally:
            over.set()
            self.stop()

    def _ask_once(self, stop: threading.Event, over: threading.Event) -> None:
        """Ask as soon as `stop` is set: this process may draw figures for seconds."""
        while not over.is_set() and not stop.wait(WATCH_SECONDS):
            pass
        if stop.is_set():
            self.ask_to_stop()

    def ask_to_stop(self) -> None:
        """Ask every worker to release its trials; `stop` waits for them."""
        for _, child in list(self._running):
            child.ask_to_stop()

    def _watch(self, run: Run) -> bool:
        """Replace workers that died; returns whether there is still work to do."""
        for device, child in list(self._running):
            if (code := child.poll()) is None:
                continue
            if code == BAD_INPUT:
                raise StudyBrokenError(
                    "a worker stopped with the error above; resolve that and run the command again"
                )
            if code == 0:  # it has found nothing left to do, and neither will others
                return False
            try:
                with outages_told(run.db):
                    reports = count_reports(run.db, run.study.study_id)
            except OutageError:
                return True  # it is replaced once the database answers
            if code != START_AGAIN:  # an outage ends all workers, and has cost each of them time
                self._count_death(reports, child)
            self._running.remove((device, child))
            self._running.append((device, self._start(device, run.study.name)))
        return True

    def _count_death(self, reports: int, child: Any) -> None:
        self._deaths = self._deaths + 1 if reports == self._reports else 1
        self._reports = reports
        # They may have died together, however many they are.
        if self._deaths >= max(MAX_DEATHS, len(self._running) + 1):
            died = f"{self._deaths} workers died in a row without finishing an epoch"
            cause = child.cause_of_death()
            remedy = " try fewer --workers" if cause.startswith("SIGKILL") else ""
            raise StudyBrokenError(f"{died}, the last with {cause}{remedy}")

    def stop(self) -> None:
        """Ask every worker to release its trials; kill those that do not stop in time."""
        stop_all(child for _, child in self._running)
