"""Real faults in real processes: a few of each, or as docs/reliability.md says (--all-faults)."""

import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.exceptions import StorageInternalError
from sqlalchemy import text, update

from data.datasets import default_data_dir
from search.running.run import Run
from search.running.worker import train_trials
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.folders import sweep
from search.store.opening import forbid_writing, open_database
from search.store.records import epochs_of
from search.store.schema import leases
from search.store.studies import StudyHandle, create_study, find_study, require_study
from search.store.views import view_study
from search.training.task import load_study_task
from tests.postgres import POOLER
from tests.search.workplaces import SmallDisk

pytestmark = pytest.mark.faults
Times = Callable[[int, int], int]


def test_workers_take_each_trial_once(workplace: Any, times: Times) -> None:
    on_sqlite = workplace.url.startswith("sqlite")
    total, processes = times(40, 1600 if on_sqlite else 800), times(8, 4 if on_sqlite else 16)
    workplace.finish(workplace.start(total=total, processes=processes, epochs=1), total)
    assert len(workplace.lines()) == total  # each trial was trained by one of them, once


def test_killed_before_any_statement(workplace: Any, times: Times) -> None:
    # One trial takes about 90 statements. With a step of 1, a process dies before each of them.
    workplace.start(total=20, epochs=2, die_every=times(23, 1)).wait()
    workplace.check(20)


def test_killed_at_random_moments(workplace: Any, times: Times) -> None:
    kills = times(8, 200)
    chance = random.Random(0)
    # Each trial takes 0.2 s or more, and a kill plus its successor's start as long as two to four
    # trials: some must be left at the last kill, or the test fails.
    total = 12 * kills
    workers = workplace.start(total=total, processes=4, epochs=4, seconds=0.05, replace=True)
    for _ in range(kills):
        time.sleep(chance.uniform(0.0, 0.1))
        workers.kill(chance.choice(workers.pids))
        workers.await_successor()
    workplace.finish(workers, total)


def test_restarts_end_at_the_total(workplace: Any, times: Times) -> None:
    step, processes = times(16, 50), times(4, 8)
    for total in range(step, step * times(1, 5) + 1, step):  # the total may also be raised
        done = len(workplace.lines())
        for reports in (done + step // 3, done + step):
            workers = workplace.start(total=total, processes=processes, epochs=2, seconds=0.02)
            workplace.wait_for(reports)
            for pid in list(workers.pids):
                workers.kill(pid)
            assert workers.wait() != 0
        workplace.finish(workplace.start(total=total, processes=processes), total)


def test_stopped_beyond_its_lease(workplace: Any, times: Times) -> None:
    for number in range(times(1, 10)):
        total = 8 * (number + 1)
        seen = len(workplace.lines())
        options = {"total": total, "epochs": 3, "seconds": 0.2, "lease": 2.0}
        sleeper = workplace.start(**options)
        workplace.wait_for(seen + 1)
        held = workplace.stop_in_mid_trial(sleeper)
        other = workplace.start(**options)
        # The other takes the trial over after a second term, since the holder exists on this host.
        deadline = time.monotonic() + 60
        while held not in [line[0] for line in workplace.lines(of=other)]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(sleeper.pids[0], signal.SIGCONT)
        assert sleeper.wait() == 0
        workplace.finish(other, total)
        losses = [line for line in workplace.lines() if line[0] == "lost"]
        assert len(losses) == number + 1  # the late writer was fenced off, and then continued


@pytest.mark.skipif(POOLER is None, reason="no pgbouncer (Debian: apt-get install pgbouncer)")
def test_workers_share_a_connection(postgres: Any, make_workplace: Any) -> None:
    """A pooler runs all transactions one after the other: no worker ever waits for a second
    connection while it holds one. What a reader forbids itself affects nobody else."""
    postgres.execute("CREATE DATABASE pooled")
    with closing(open_database(postgres.url("pooled"))), postgres.pooled("pooled", 1) as url:
        workplace = make_workplace(url)
        workers = workplace.start(total=12, processes=4, epochs=3)
        workplace.wait_for(3)
        while workers.process.is_alive():
            with closing(open_database(url)) as reader:
                forbid_writing(reader)
                study_id = reader.optuna.get_study_id_from_name("study")
                assert epochs_of(reader, study_id)
                with pytest.raises(StorageInternalError):
                    reader.optuna.set_study_user_attr(study_id, "forbidden", 1)
        workplace.finish(workers, 12)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_host_that_sleeps(workplace: Any, times: Times) -> None:
    """All are stopped together for longer than their leases, and resume together."""
    sleeps = times(1, 10)
    workers = workplace.start(total=6 * sleeps, processes=3, epochs=3, seconds=0.2, lease=3.0)
    for number in range(sleeps):
        workplace.wait_for(3 + 18 * number)
        os.killpg(workers.process.ident, signal.SIGSTOP)
        time.sleep(4.0)
        os.killpg(workers.process.ident, signal.SIGCONT)
    workplace.finish(workers, 6 * sleeps, undisturbed=True)
    assert workplace.attempts() == {1}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_clock_set_forward(workplace: Any, times: Times) -> None:
    """By an hour, for the database: every lease expires, though none twice in one term.

    A lease is extended once until its holder renews it, here a second later. With fifty jumps
    in half a minute, another jump would fall into that time now and then.
    """
    jump = update(leases).where(leases.c.extended.is_(None))
    jumps = times(2, 50)
    workers = workplace.start(total=12 * jumps, processes=3, epochs=3, seconds=0.05, lease=3.0)
    for number in range(jumps):
        workplace.wait_for(3 + 30 * number)
        with closing(open_database(workplace.url)) as db, db.engine.begin() as connection:
            connection.execute(jump.values(expires_at=leases.c.expires_at - 3600))
    workplace.finish(workers, 12 * jumps, undisturbed=True)
    assert workplace.attempts() == {1}


def make_anew(url: str) -> None:
    """Delete the study and make one of the same name, in a single step for all others."""
    with closing(open_database(url)) as db:
        study = optuna.load_study(study_name="study", storage=db.optuna)
        with StudyHandle.of(db, study).transaction() as connection:
            if db.engine.dialect.name == "postgresql":
                # Optuna gives up silently if something is written to the study meanwhile.
                connection.execute(text("LOCK TABLE trials IN EXCLUSIVE MODE"))
            optuna.delete_study(study_name="study", storage=db.optuna)
            optuna.create_study(study_name="study", storage=db.optuna)


def test_a_study_deleted_and_recreated_under_living_workers(
    database_url: str, make_workplace: Callable[[str], Any], times: Times
) -> None:
    """SQLite reuses the ids of the old study and its trials for the new one."""
    for _ in range(times(1, 20)):
        old_place, place = make_workplace(database_url), make_workplace(database_url)
        old = old_place.start(total=10_000, processes=3, epochs=5, seconds=0.02)
        old_place.wait_for(10)
        while len(list(old_place.notes.iterdir())) < 3:  # each has found the study
            time.sleep(0.01)
        make_anew(database_url)
        new = place.start(total=12, processes=3, epochs=5, seconds=0.02)
        assert old.wait() == 1
        place.finish(new, 12)
        assert place.attempts() == {1}
        with closing(open_database(database_url)) as db:
            rows = epochs_of(db, db.optuna.get_study_id_from_name("study"))
            writers = {int(row.worker.split(":")[1]) for row in rows}
            assert writers <= set(new.pids)
            optuna.delete_study(study_name="study", storage=db.optuna)
        assert "Traceback" not in old_place.errors() + place.errors()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_locked_by_another_process(workplace: Any, tmp_path: Path, times: Times) -> None:
    locks = [2.0] if times(1, 2) == 1 else [10.0, 60.0]
    workers = workplace.start(total=20 * len(locks), processes=2, seconds=0.01)
    for number, seconds in enumerate(locks):
        workplace.wait_for(20 * number + 2)
        other = sqlite3.connect(tmp_path / "studies.db", isolation_level=None, timeout=10)
        other.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        other.execute("ROLLBACK")
        other.close()
    workplace.finish(workers, 20 * len(locks))


def test_disk_full(small_disk: SmallDisk, make_workplace: Callable[[str], Any]) -> None:
    workplace = make_workplace(f"sqlite:///{small_disk.folder / 'studies.db'}")
    workers = workplace.start(total=30, processes=2, seconds=0.02)
    workplace.wait_for(3)
    small_disk.fill()
    time.sleep(2.0)
    small_disk.empty()
    workplace.finish(workers, 30)
    assert "its disk is full; free some space; trying again" in workplace.errors()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_connections_terminated(workplace: Any, postgres: Any, times: Times) -> None:
    terminations = times(4, 50)
    total = 8 * terminations
    workers = workplace.start(total=total, processes=4, seconds=0.005)
    workplace.wait_for(2)
    for _ in range(terminations):
        time.sleep(random.uniform(0.02, 0.2))
        postgres.terminate_connections()
    workplace.finish(workers, total, undisturbed=True)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_stopped(workplace: Any, postgres: Any, times: Times) -> None:
    """For some seconds, and by crashes."""
    outages = [*[2.0, 10.0, 30.0][: times(1, 3)], *[0.0] * times(1, 20)]
    workers = workplace.start(total=30 * len(outages), processes=4, seconds=0.02)
    for number, seconds in enumerate(outages):
        workplace.wait_for(20 + 60 * number)
        postgres.stop(crash=seconds == 0)
        time.sleep(seconds)
        postgres.start()
    workplace.finish(workers, 30 * len(outages), undisturbed=True)


def train_to_the_end(folder: Path, trials: int) -> None:
    """Resume the study and train it, as `python -m search.worker` does."""
    torch.set_num_threads(1)
    written = {"width": {"low": 4, "high": 12}, "depth": 1, "hidden": []}
    space = {name: read_parameter(name, one) for name, one in written.items()}
    fields: dict[str, Any] = {"epochs": 15, "pruner": "none", "sampler": "random", "limit": 200}
    spec = StudySpec(dataset="digits", trials=trials, space=space, **fields)
    task = load_study_task(spec, default_data_dir(), torch.device("cpu"))
    with closing(open_database(f"sqlite:///{folder / 'studies.db'}")) as db:
        study = find_study(db, "s") or create_study(db, "s", spec, task.info, validation_count=40)
        run = Run(
            study=study,
            spec=spec,
            task=task,
            folder=folder / "s",
            checkpoints=folder / "s" / "checkpoints",
            stop=threading.Event(),
        )
        sweep(study, run.folder)
        train_trials(run)
        sweep(study, run.folder)


def train_and_kill(folder: Path, kills: int) -> None:
    """Fork processes that train, which only one that has trained nothing itself can do."""
    chance, checkpoints = random.Random(0), folder / "s" / "checkpoints"

    def written() -> set[Any]:
        found = set()
        for path in checkpoints.glob("*"):
            with suppress(FileNotFoundError):
                found.add((path, path.stat().st_mtime_ns))
        return found

    def start() -> Any:
        forked = multiprocessing.get_context("fork")
        process = forked.Process(target=train_to_the_end, args=(folder, kills))
        process.start()
        return process

    for _ in range(kills):
        before, process = written(), start()
        while written() == before and process.is_alive():
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.2))
        process.kill()  # does nothing if it has ended by itself
        process.join()
    (process := start()).join()
    sys.exit(process.exitcode)


def test_after_kills_at_any_moment_no_file_of_a_trial_is_left(tmp_path: Path, times: Times) -> None:
    fresh = multiprocessing.get_context("spawn")
    process = fresh.Process(target=train_and_kill, args=(tmp_path, times(4, 200)))
    process.start()
    process.join()
    assert process.exitcode == 0
    with closing(open_database(f"sqlite:///{tmp_path / 'studies.db'}")) as db:
        assert view_study(require_study(db, "s")).finished == times(4, 200)
    assert [path for path in (tmp_path / "s").rglob("*") if path.is_file()] == []
