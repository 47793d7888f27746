"""Several local processes on one study: started, watched, replaced when they die, sent home.

Much of the time before the first trial goes into loading libraries. So workers are started before
the study is planned, as copies of the command that has them loaded already where it can be copied;
they are told the study's name as soon as there is one.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from search.running.forked import ForkedProcess
from search.running.fresh import KILLED, ErrorOutput, cause_of_death, start_fresh
from search.store.errors import StudyBrokenError
from search.store.storage_url import STORAGE_VARIABLE
from search.training.device import available_cores

LEAVE_SECONDS = 4.0  # what a worker has after SIGTERM
WATCH_SECONDS = 0.2
MAX_DEATHS = 10  # in a row, with no report of an epoch between them
MAX_DEFAULT_WORKERS = 8

TOLD_LATER = "-"  # in place of a study's name: the worker reads it from standard input
Process = subprocess.Popen[bytes] | ForkedProcess


def default_workers(device: str, cores: int | None = None, gpus: int = 1) -> int:
    """How many local processes train best: one a GPU, on a CPU one for each core, at most 8.

    Two threads that share the layers of a small network gave 1.87 times the speed of one on a
    quiet machine, and less than one where something else ran too; two processes give 2 times,
    come what may. Beyond 8 at a time the sampler would draw too many trials without their news.
    """
    if device != "cpu":
        return gpus
    return min(MAX_DEFAULT_WORKERS, cores or available_cores())


def threads_for(workers: int, cores: int | None = None) -> int:
    """Threads of each worker, so that together they do not exceed the cores."""
    return max(1, (cores or available_cores()) // workers)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Member:
    process: Process
    device: str
    errors: ErrorOutput


@dataclass
class Team:
    """Worker processes on this machine; a context manager, at whose end they are sent home.

    Attributes:
        url: of the database; handed over in the environment, so that a password in it stays out
            of the process list.
        devices: one for each worker.
        threads: of each worker.
        trials_per_device: that a worker trains at a time; None lets each find out.
        fork: does a worker's work, given the arguments of its command, in a copy of this process;
            see `ForkedProcess` for when there can be one. None: workers are started afresh.
    """

    url: str
    devices: list[str]
    data_dir: Path
    runs_dir: Path | None
    threads: int
    trials_per_device: int | None = None
    fork: Callable[[list[str]], object] | None = None
    _study: str | None = None
    _count_reports: Callable[[], int] = lambda: 0
    _running: list[_Member] = field(default_factory=list)
    _reports: int = 0
    _vain_deaths: int = 0

    def __enter__(self) -> Team:
        """Start the workers; they wait for a study."""
        with suppress(OSError):  # is met again, if at all, once there is a study to work on
            if self.fork is None:
                self._start_missing()
            else:
                self._copy_this_process(self.fork)
        return self

    def __exit__(self, *_: object) -> None:
        self.send_home()

    def begin(self, study: str, count_reports: Callable[[], int]) -> None:
        """Set them to work on a study.

        Args:
            count_reports: how many of its epochs were reported so far; asked when a worker dies.
        """
        for member in self._running:
            _tell(member.process, study)
        self._study, self._count_reports = study, count_reports
        self._start_missing()

    def _start_missing(self) -> None:
        for device in self.devices[len(self._running) :]:
            self._start_one(device)

    def _copy_this_process(self, fork: Callable[[list[str]], object]) -> None:
        for device in self.devices:
            siblings = [it.process.stdin for it in self._running if it.process.stdin is not None]
            run = partial(self._work_as_copy, fork, self._arguments(device))
            errors = ErrorOutput()
            process = ForkedProcess(run, siblings, errors.fileno())
            self._running.append(_Member(process=process, device=device, errors=errors))

    def _work_as_copy(self, fork: Callable[[list[str]], object], arguments: list[str]) -> None:
        os.environ[STORAGE_VARIABLE] = self.url
        fork(arguments)

    def _start_one(self, device: str) -> None:
        errors = ErrorOutput()
        process = start_fresh(
            "search.worker",
            *self._arguments(device),
            errors=errors,
            env={STORAGE_VARIABLE: self.url},
        )
        self._running.append(_Member(process=process, device=device, errors=errors))
        if self._study is not None:
            _tell(process, self._study)

    def _arguments(self, device: str) -> list[str]:
        return [
            *("--quiet", "--parent", str(os.getpid())),
            *("--study", TOLD_LATER, "--device", device),
            *("--data-dir", str(self.data_dir), "--threads", str(self.threads)),
            *(() if self.runs_dir is None else ("--runs-dir", str(self.runs_dir))),
            *("--trials-per-device", str(self.trials_per_device or "auto")),
        ]

    def watch(self) -> bool:
        """Replace workers that died, pass on what they say; whether any is left at work.

        Raises:
            StudyBrokenError: they die before they achieve anything, or one met an error that a
                person must mend (it has said so on standard error).
        """
        for member in list(self._running):
            code = member.process.poll()
            if code is None:
                member.errors.pass_on()
                continue
            self._running.remove(member)
            last_line = member.errors.close()
            if code == 0:
                continue
            if code == 2:
                raise StudyBrokenError("a worker stopped with the error above; mend that, then "
                                       "run the same command again")  # fmt: skip
            self._count_death()
            if self._vain_deaths >= MAX_DEATHS:
                remedy = " try fewer --workers" if code in KILLED else ""
                raise StudyBrokenError(
                    f"{MAX_DEATHS} workers died and no epoch was finished between, the last with "
                    f"{cause_of_death(code, last_line)}{remedy}"
                )
            self._start_one(member.device)
        return bool(self._running)

    def _count_death(self) -> None:
        reports = self._count_reports()
        self._vain_deaths = self._vain_deaths + 1 if reports == self._reports else 1
        self._reports = reports

    def send_home(self) -> None:
        """Ask every worker to lay its trial aside; end those that do not leave in time."""
        for member in self._running:
            member.process.terminate()
            assert member.process.stdin is not None
            with suppress(BrokenPipeError):  # it died before it had read what was written
                member.process.stdin.close()
        deadline = time.monotonic() + LEAVE_SECONDS
        for member in self._running:
            wait_or_kill(member.process, deadline)
            member.errors.close()
        self._running.clear()


def wait_or_kill(process: Process, deadline: float) -> None:
    """End a process that has not ended by itself when the monotonic clock shows `deadline`."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tell(process: Process, study: str) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:  # it has died: `watch` sees to that
        pipe.write(study.encode())
