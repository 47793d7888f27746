"""Processes that work on a study, to be killed, stopped and cut off; see `WorkerOptions`.

Each claims, samples, reports and finishes trials as the trial loop does, without training. It
writes every acknowledged report to a file of its own, as `trial_number epoch loss`, and every lease
that it lost as `lost trial_number`.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy import event

from search.store import StudyGoneError
from search.store.claims import claim
from search.store.database import Database, with_retry
from search.store.leases import Heartbeat, Lease, LostLeaseError, finish, sample
from search.store.opening import open_database
from search.store.records import record_epoch
from search.store.studies import StudyHandle
from search.training.epoch import Epoch

STUDY = "study"


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How many trials to end with, by how many processes, and what happens to them."""

    url: str
    acknowledged: Path  # a folder: the file in it has the process's id as its name
    errors: Path  # the file to which the processes' standard error is appended
    total: int
    processes: int = 1
    epochs: int = 2
    seconds: float = 0.0  # an epoch takes
    lease: float = 60.0
    replace: bool = False  # start another for each that is killed
    die_every: int | None = None  # one after the other, each killed so many statements later


def loss_after(x: float, epoch: int) -> float:
    """What any worker reports for a trial: a function of only its parameter and the epoch."""
    return x + 1 / (epoch + 1)


def work(db: Database, study: StudyHandle, options: WorkerOptions) -> None:
    notes = os.open(
        options.acknowledged / str(os.getpid()), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644
    )
    with Heartbeat(db) as heartbeat:
        while True:
            with study.told_if_gone():
                claimed = claim(study, total=options.total, lease_seconds=options.lease)
            match claimed:
                case "done":
                    return
                case "wait":
                    time.sleep(0.05)
                case Lease() as lease:
                    try:
                        with heartbeat.keep(lease):
                            train_nothing(db, study, lease, options, notes)
                    except LostLeaseError:
                        os.write(notes, f"lost {lease.trial_number}\n".encode())


def train_nothing(
    db: Database, study: StudyHandle, lease: Lease, options: WorkerOptions, notes: int
) -> None:
    if lease.exhausted:
        finish(study, lease, state=TrialState.FAIL, attributes={"reason": "abandoned"})
        return
    x = sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1))
    for epoch in range(options.epochs):
        time.sleep(options.seconds)
        report(db, lease, epoch, loss_after(x, epoch))
        os.write(notes, f"{lease.trial_number} {epoch} {loss_after(x, epoch)!r}\n".encode())
    finish(study, lease, state=TrialState.COMPLETE, value=x)


def report(db: Database, lease: Lease, epoch: int, loss: float = 1.0) -> None:
    """Records an epoch of which only its number and loss matter."""
    values = {"train_loss": loss, "train_error": 0.5, "learning_rate": 0.1, "seconds": 1.0}
    row = Epoch(epoch=epoch, validation_loss=loss, validation_error=0.5, images=1, **values)
    record_epoch(db, lease, row, loss)


def start_child(options: WorkerOptions, *, die_at: int | None = None) -> int:
    """Fork, while no connection and no thread exists, to save the import. Returns the pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        db = open_database(options.url)
        sampler = optuna.samplers.RandomSampler()
        loaded = with_retry(
            db, lambda: optuna.load_study(study_name=STUDY, storage=db.optuna, sampler=sampler)
        )
        if die_at is not None:
            die_before_statement(db, die_at)
        study = StudyHandle.of(db, loaded)
        work(db, study, options)
        code = 0
    except StudyGoneError:
        code = 2
    finally:
        sys.stderr.flush()
        os._exit(code)


def die_before_statement(db: Database, number: int) -> None:
    left = number

    def before(*_arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(db.engine, "before_cursor_execute", before)
    event.listen(db.engine, "commit", before)


def start_workers(options: WorkerOptions, started: Connection) -> None:
    """The process that starts the others, in a session of its own. Sends the list of their ids,
    then the id of each that replaces a killed one. Exits with 0 if all ended well."""
    os.setsid()
    with options.errors.open("ab") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    db = open_database(options.url)  # also loads what children would each have to load
    optuna.create_study(study_name=STUDY, storage=db.optuna, load_if_exists=True)
    db.close()
    if options.die_every:
        started.send([])
        deaths = 0
        while os.waitpid(start_child(options, die_at=deaths * options.die_every), 0)[1] != 0:
            deaths += 1
        return
    pids = {start_child(options) for _ in range(options.processes)}
    started.send(list(pids))
    codes = []
    while pids:  # wait for all, even if the first fails
        pid, code = os.wait()
        pids.discard(pid)
        if options.replace and os.WIFSIGNALED(code):
            pids.add(successor := start_child(options))
            started.send(successor)
        else:
            codes.append(code)
    sys.exit(int(any(codes)))
