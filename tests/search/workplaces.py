"""Fixtures: an open database of each kind, and processes that work on it."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import event, make_url

from search.spec.config import StudySpec
from search.store.claims import claim
from search.store.database import Database
from search.store.leases import Lease
from search.store.opening import open_database
from search.store.records import epochs_of
from search.store.studies import StudyHandle
from tests.search.long_studies import SPEC, Fill, fill
from tests.search.worker_processes import WorkerOptions, start_workers

ROOT = Path(__file__).parents[2]
# Forks processes that have loaded the libraries, which takes seconds.
FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload([start_workers.__module__])
OPEN_AT_ONCE = """
import os, sys
import optuna
from search.store.opening import open_database
from search.store.studies import StudyHandle

url, *statements = sys.argv[1:]
for _ in range(5):
    if os.fork() == 0:
        code = 1
        try:
            db = open_database(url)
            exec("\\n".join(statements))
            db.close()
            code = 0
        finally:
            os._exit(code)
sys.exit(any([os.wait()[1] for _ in range(5)]))
"""


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and no study: copies take a third of the time to make one."""
    file = tmp_path_factory.mktemp("tables") / "studies.db"
    open_database(f"sqlite:///{file}").close()
    return file


@pytest.fixture(scope="session")
def postgres_tables(postgres: Any) -> str:
    """The name of such a database of the server."""
    postgres.execute("CREATE DATABASE tables")
    open_database(postgres.url("tables")).close()
    return "tables"


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = open_database(database_url)
    yield database
    database.close()


@pytest.fixture
def study(db: Database) -> StudyHandle:
    sampler = optuna.samplers.RandomSampler(seed=0)
    made = optuna.create_study(study_name="study", storage=db.optuna, sampler=sampler)
    return StudyHandle.of(db, made)


def take(study: StudyHandle, total: int = 10, **options: Any) -> Lease:
    """Claim a trial of the study, which must have one to give; options as for `claim`."""
    claimed = claim(study, total=total, **options)
    assert isinstance(claimed, Lease)
    return claimed


@pytest.fixture
def lease(study: StudyHandle) -> Lease:
    return take(study)


def open_at_once(url: str, *statements: str) -> list[str]:
    """Five processes open a database as `db` and run the statements. Returns all printed words."""
    command = [sys.executable, "-c", OPEN_AT_ONCE, url, *statements]
    done = subprocess.run(
        command, cwd=ROOT, check=True, timeout=60, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.split()


@dataclass
class WorkerProcesses:
    """Processes started by one call of `start_workers`."""

    process: ForkServerProcess
    pids: list[int]
    epochs: int
    started: Connection

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.pids.remove(pid)

    def await_successor(self) -> None:
        """Wait for the process that replaces a killed one, with replace=True."""
        self.pids.append(self.started.recv())

    def wait(self, seconds: float = 120) -> int:
        """Their common exit code: 0 if all ended well."""
        self.process.join(seconds)
        assert self.process.exitcode is not None
        return self.process.exitcode


def end(processes: Iterable[subprocess.Popen[str]]) -> None:
    """Kill those that still live, with everything that they started."""
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


class Workplace:
    """Starts workers on a database, and checks what they leave."""

    def __init__(self, url: str, notes: Path) -> None:
        self.url, self.notes = url, notes
        self._errors = notes.with_suffix(".err")
        self._errors.touch()
        self._all: list[ForkServerProcess] = []

    def start(self, **given: Any) -> WorkerProcesses:
        """Start workers on the database; options as for `WorkerOptions`."""
        options = WorkerOptions(url=self.url, acknowledged=self.notes, errors=self._errors, **given)
        started, theirs = FORK_SERVER.Pipe(duplex=False)
        process = FORK_SERVER.Process(target=start_workers, args=(options, theirs))
        process.start()
        theirs.close()
        self._all.append(process)
        return WorkerProcesses(process, started.recv(), options.epochs, started)

    def errors(self) -> str:
        """What the processes have written to standard error."""
        return self._errors.read_text()

    def finish(self, workers: WorkerProcesses, total: int, *, undisturbed: bool = False) -> None:
        """All must end well and, if `undisturbed`, none may have lost a lease meanwhile."""
        assert workers.wait(max(120, total / 5)) == 0  # a slow machine finishes ten a second
        self.check(total)
        assert not undisturbed or all(line[0] != "lost" for line in self.lines())

    def lines(self, of: WorkerProcesses | None = None) -> list[list[str]]:
        """The lines that workers wrote, split into words: all workers, or those of one start."""
        return [
            line.split()
            for file in self.notes.iterdir()
            if of is None or int(file.name) in of.pids
            for line in file.read_text().splitlines()
        ]

    def wait_for(self, reports: int) -> None:
        """Wait until so many reports are acknowledged."""
        deadline = time.monotonic() + 180
        while len(self.lines()) < reports:
            assert time.monotonic() < deadline, f"{reports} reports did not come"
            time.sleep(0.01)

    def attempts(self) -> set[int]:
        """The attempts of all reports: only 1 if no trial was ever taken over."""
        with closing(open_database(self.url)) as db:
            study_id = db.optuna.get_study_id_from_name("study")
            return {row.attempt for row in epochs_of(db, study_id)}

    def stop_in_mid_trial(self, workers: WorkerProcesses) -> str:
        """Stop a single worker before its trial's last report. Returns the trial's number.

        Not while it holds SQLite's lock, which would block all other writers for as long.
        """
        pid, last_epoch = workers.pids[0], str(workers.epochs - 1)
        while True:
            os.kill(pid, signal.SIGSTOP)
            while not _is_stopped(pid):  # a system call under way ends first, and may take a lock
                time.sleep(0.01)
            number, epoch, *_ = self.lines(of=workers)[-1]
            if epoch != last_epoch and not self._locked():
                return number
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.02)

    def _locked(self) -> bool:
        url = make_url(self.url)
        if url.database is None or url.get_backend_name() != "sqlite":
            return False  # a server ends the transactions of a client that no longer answers
        with closing(sqlite3.connect(url.database, timeout=0.5)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            return False

    def check(self, total: int) -> None:
        """What must hold in the end: exact totals, and no acknowledged report lost."""
        with closing(open_database(self.url)) as db:
            study_id = db.optuna.get_study_id_from_name("study")
            trials, rows = db.optuna.get_all_trials(study_id), epochs_of(db, study_id)
        states = [trial.state.name for trial in trials]
        assert states.count("COMPLETE") == total
        assert set(states) <= {"COMPLETE", "FAIL"}
        assert [trial.number for trial in trials] == list(range(len(trials)))
        stored = {(row.trial_number, row.epoch): row.validation_loss for row in rows}
        for number, epoch, loss in (line for line in self.lines() if line[0] != "lost"):
            assert stored[int(number), int(epoch)] == float(loss)
        for trial in trials:  # and Optuna's table agrees with ours, report for report
            ours = {key[1]: loss for key, loss in stored.items() if key[0] == trial.number}
            assert trial.intermediate_values == ours

    def close(self) -> None:
        for process in self._all:
            if process.is_alive():
                os.killpg(process.ident, signal.SIGKILL)
            process.join()
        sys.stderr.write(self.errors())  # shown if the test fails


@pytest.fixture
def make_workplace(tmp_path: Path) -> Iterator[Callable[[str], Workplace]]:
    """Makes a workplace on a database's URL."""
    places = []

    def make(url: str) -> Workplace:
        notes = tmp_path / f"notes-{len(places)}"
        notes.mkdir()
        places.append(Workplace(url, notes))
        return places[-1]

    yield make
    for place in places:
        place.close()


@pytest.fixture
def workplace(database_url: str, make_workplace: Callable[[str], Workplace]) -> Workplace:
    return make_workplace(database_url)


@dataclass
class SmallDisk:
    """A file system of 4 MB, to be filled up and emptied again."""

    folder: Path

    def fill(self) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def empty(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small file system")
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Fill]:
    """Makes long studies; see `fill`."""
    opened: list[Database] = []

    def make(
        count: int, spec: StudySpec = SPEC, *, paused: int = 0
    ) -> tuple[Database, StudyHandle]:
        db, study = fill(tmp_path / f"{len(opened)}.db", count, spec, paused=paused)
        opened.append(db)
        return db, study

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def rows_read() -> Callable[[Database], list[Any]]:
    """Makes a list to which every row is added that a SQLite database fetches from now on."""

    def start(db: Database) -> list[Any]:
        rows: list[Any] = []

        def keep(_cursor: Any, row: Any) -> Any:
            rows.append(row)
            return row

        def watch(connection: Any, *_: Any) -> None:
            connection.row_factory = keep

        event.listen(db.engine, "checkout", watch)
        return rows

    return start


def _is_stopped(pid: int) -> bool:
    """Whether all threads of the process are stopped."""
    stats = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(text.rpartition(")")[2].split()[0] == "T" for text in stats)
