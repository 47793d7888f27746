"""A program, not a test: processes that train made-up trials which pause, to be killed.

    python pausing_processes.py URL FOLDER --processes 4 --trials 40 --kills 10

It kills one of them at random every now and then, and starts another for it. What each has reported
for certain it notes in FOLDER/notes/<pid>, as `trial_number epoch loss`.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from data.datasets import default_data_dir
from search.dashboard.artifacts import TrialPictures
from search.running.run import Run
from search.running.worker import train_trials
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.opening import open_database
from search.store.studies import create_study, require_study, set_total
from search.training.epoch import Epoch
from search.training.task import Task, load_task
from tests.search.running.made_up import MadeUpTraining, register

STUDY = "study"


def spec_of(trials: int, budget: float) -> StudySpec:
    space = {"width": read_parameter("width", {"low": 4, "high": 12})}
    return StudySpec(
        dataset="digits", trials=trials, epochs=8, budget=budget, pruner="laying-aside",
        sampler="random", space=space,
    )  # fmt: skip


def work(options: argparse.Namespace, task: Task) -> None:
    notes = (options.folder / "notes" / str(os.getpid())).open("a", buffering=1)

    class Noting(MadeUpTraining):
        def slices(self) -> Iterator[Epoch | None]:
            for epoch in super().slices():
                time.sleep(options.seconds)
                yield epoch
                if epoch is not None:  # whoever asks for more has recorded it
                    notes.write(f"{self.seed} {epoch.epoch} {epoch.validation_loss!r}\n")

    db = open_database(options.url)
    study = require_study(db, STUDY)
    run = Run(
        study=study,
        spec=spec_of(options.trials, options.budget),
        task=task,
        folder=options.folder / "runs" / STUDY,
        stop=threading.Event(),
        lease_seconds=5.0,
        train=Noting,
    )
    train_trials(run)


def start_child(options: argparse.Namespace, task: Task) -> int:
    """Forks while there is no connection and no thread."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work(options, task)
        code = 0
    except BaseException:
        logging.exception("a worker failed")
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--trials", type=int, required=True)
    parser.add_argument("--budget", type=float, default=0.4)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.005, help="a slice takes")
    options = parser.parse_args()
    (options.folder / "notes").mkdir(exist_ok=True)
    register()
    TrialPictures.upload = lambda *_: None  # type: ignore[method-assign]
    task = load_task("digits", default_data_dir(), torch.device("cpu"), seed=0, limit=400)
    db = open_database(options.url)
    spec = spec_of(options.trials, options.budget)
    create_study(db, STUDY, spec, task.info, validation_count=len(task.validation))
    set_total(require_study(db, STUDY), options.trials, options.budget)
    db.close()
    chance, pids = random.Random(0), {start_child(options, task) for _ in range(options.processes)}
    for _ in range(options.kills):
        time.sleep(chance.uniform(0.05, 0.4))
        pid = chance.choice(sorted(pids))
        os.kill(pid, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            print("the study was over before the last kill", file=sys.stderr)
            return 1
        pids.remove(pid)
        pids.add(start_child(options, task))
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
