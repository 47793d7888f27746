"""The coordinators of trials: each runs some that train nothing, with others already present.

A trial samples the parameters of the default study's space, reports 10 epochs, asks after each
whether to stop, and ends. Its losses are lower than all earlier ones, so that it is never stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
import torch

from benchmarks.ray_tune import LOSS, tune_with_asha
from benchmarks.trials_present import MadeUpTrial, insert_trials
from benchmarks.workload import default_study
from data.datasets import default_data_dir
from search.running.run import Run
from search.running.worker import train_trials
from search.spec.config import StudySpec
from search.spec.space import suggest
from search.store.opening import open_database
from search.store.studies import create_study, load_spec, require_study
from search.training.epoch import Epoch
from search.training.task import Task, load_study_task

EPOCHS = 10
STUDY = "coordination"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """When trials ended, one after the other, and how much CPU time had been used by then.

    Attributes:
        started: before the study was opened.
        seconds: when each trial ended, by `time.perf_counter()` or a similar clock.
        cpu_seconds: user and system time of this process; empty if others did the work.
    """

    started: float
    seconds: Sequence[float]
    cpu_seconds: Sequence[float] = ()


def make_spec(trials: int) -> StudySpec:
    """The default study on digits, with room for whole trials."""
    return default_study(dataset="digits", trials=trials, epochs=EPOCHS, budget=1.0)


def loss_of(number: int, epoch: int) -> float:
    """Lower than any earlier trial at any epoch."""
    return float(0.1 * 0.999 ** (number * (EPOCHS + 1) + epoch))


def fill_ours(path: Path, made_up: Sequence[MadeUpTrial], trials: int) -> None:
    """A study with room for so many trials, and for another one."""
    db = open_database(f"sqlite:///{path}")
    spec = make_spec(len(made_up) + trials + 1)
    study = create_study(db, STUDY, spec, few_digits().info, validation_count=1)
    insert_trials(db.engine, study.study_id, spec, made_up, ours=True)
    with db.engine.connect() as connection:  # everything into the main file, which gets copied
        connection.rollback()
        connection.connection.dbapi_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
    db.close()


def run_ours(path: Path, trials: int) -> Ends:
    """What a worker of `search.study` does, without training.

    Only the training itself and its checkpoints are left out. Our trials make one more report, the
    partial-epoch validation.
    """
    started = time.perf_counter()
    db = open_database(f"sqlite:///{path}")
    study = require_study(db, STUDY)
    ends, cpu_ends, stop = [], [], threading.Event()

    def ended() -> None:
        ends.append(time.perf_counter())
        cpu_ends.append(time.process_time())
        if len(ends) == trials:
            stop.set()

    run = Run(
        study=study,
        spec=load_spec(study),
        task=few_digits(),
        folder=path.parent,
        checkpoints=path.parent / "checkpoints",
        stop=stop,
        on_change=ended,
        trials_at_a_time=1,
        train=lambda *_, **__: NoTraining(partial(loss_of, len(ends))),
    )
    with patch("search.running.trial.save_training"):
        train_trials(run)
    db.close()
    return Ends(started=started, seconds=ends, cpu_seconds=cpu_ends)


class NoTraining:
    """Stands in for `search.training.train.Training`.

    Args:
        curve: loss by epoch.
        pause: seconds per epoch; the partial-epoch validation is immediate.
    """

    def __init__(
        self, curve: Callable[[int], float], *, epochs: int = EPOCHS, pause: float = 0.0
    ) -> None:
        self._curve, self._epochs, self._pause = curve, epochs, pause
        self.epoch = -1

    def slices(self) -> Iterator[Epoch]:
        while self.epoch < self._epochs:
            self.epoch += 1
            if self.epoch:
                time.sleep(self._pause)
            loss = self._curve(self.epoch)
            yield Epoch(
                epoch=self.epoch,
                train_loss=loss,
                train_error=0.1,
                validation_loss=loss,
                metrics={"calibrated_loss": loss},
                validation_error=0.1,
                learning_rate=1e-3,
                seconds=0.1,
                images=100,
            )

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def confusion(self) -> torch.Tensor:
        return torch.zeros(10, 10, dtype=torch.int64)

    def close(self) -> None:
        pass


def few_digits() -> Task:
    spec = StudySpec(dataset="digits", limit=100)
    return load_study_task(spec, default_data_dir(), torch.device("cpu"))


def fill_optuna(path: Path, made_up: Sequence[MadeUpTrial]) -> None:
    study = optuna.create_study(storage=f"sqlite:///{path}", study_name=STUDY)
    storage: Any = study._storage
    engine = storage._backend.engine
    spec = make_spec(len(made_up) + 1)
    insert_trials(engine, study._study_id, spec, made_up, ours=False)
    engine.dispose()


def run_optuna(path: Path, trials: int, present: int, pruner: optuna.pruners.BasePruner) -> Ends:
    """`study.optimize` with TPE, on a database opened by its URL, as Optuna's tutorials do."""
    started = time.perf_counter()
    spec = make_spec(present + trials)
    study = optuna.load_study(
        storage=f"sqlite:///{path}",
        study_name=STUDY,
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=pruner,
    )
    ends: list[float] = []
    cpu_ends: list[float] = []

    def objective(trial: optuna.Trial) -> float:
        suggest(trial, spec)
        for epoch in range(1, EPOCHS + 1):
            loss = loss_of(len(ends), epoch)
            trial.report(loss, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    def ended(_study: optuna.Study, _trial: optuna.trial.FrozenTrial) -> None:
        ends.append(time.perf_counter())
        cpu_ends.append(time.process_time())

    study.optimize(objective, n_trials=trials, callbacks=[ended])
    storage: Any = study._storage
    storage._backend.engine.dispose()
    return Ends(started=started, seconds=ends, cpu_seconds=cpu_ends)


def run_ray(trials: int) -> Ends:
    """Ray Tune with ASHA, one trial at a time; no others are present."""
    from ray import tune

    epochs, loss_name = EPOCHS, LOSS

    # Nested, so that Ray's workers receive its code and need not import this module and ours.
    def report_epochs(_: dict[str, Any]) -> None:
        begun = time.time()  # later trials must be better, but do not know their number
        for epoch in range(1, epochs + 1):
            loss = 1e-6 * (2e9 - begun) + 0.001 * 0.9**epoch
            tune.report({loss_name: loss, "ended": time.time()})

    started = time.time()
    found = tune_with_asha(
        report_epochs, trials=trials, epochs=EPOCHS, at_once=1, threads=1, gpus=0
    )
    return Ends(started=started, seconds=sorted(trial.metrics["ended"] for trial in found))
