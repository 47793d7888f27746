"""Fixtures of the trial loop: a small study on digits, with real or made-up trainings."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from data.datasets import default_data_dir
from search.dashboard.content import TrialPictures
from search.running.run import Run
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.opening import open_database
from search.store.studies import create_study, find_study, set_total
from search.training.task import Task, load_study_task
from search.training.train import train as real

SPACE = {
    "width": {"low": 4, "high": 12},
    "depth": {"low": 1, "high": 2},
    "hidden": [],
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "dropout": {"low": 0.0, "high": 0.4},
}


@pytest.fixture(scope="session")
def small_task() -> Task:
    spec = StudySpec(dataset="digits", limit=400)
    return load_study_task(spec, default_data_dir(), torch.device("cpu"))


@pytest.fixture
def make_run(
    tmp_path: Path, small_task: Task, sqlite_tables: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Run]]:
    """Opens a study by name, made if necessary, as the next start of a command does."""
    opened = []
    shutil.copy(sqlite_tables, tmp_path / "studies.db")
    monkeypatch.setattr(TrialPictures, "upload", lambda *_: None)  # they take most of the time

    def make(
        name: str = "study",
        at_a_time: int | None = None,
        *,
        space: Mapping[str, Any] = SPACE,
        task: Task = small_task,
        train: Any = real,
        **fields: Any,
    ) -> Run:
        read = {key: read_parameter(key, written) for key, written in space.items()}
        usual = {"dataset": "digits", "trials": 4, "epochs": 3, "pruner": "halving", "space": read}
        spec, count = StudySpec(**{**usual, **fields}), len(task.validation)
        db = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
        opened.append(db)
        study = find_study(db, name) or create_study(
            db, name, spec, task.info, validation_count=count
        )
        set_total(study, spec.trials, budget=spec.budget)
        return Run(
            study=study,
            spec=spec,
            task=task,
            folder=tmp_path / name,
            checkpoints=tmp_path / name / "checkpoints",
            stop=threading.Event(),
            trials_at_a_time=at_a_time,
            train=train,
        )

    yield make
    for db in opened:
        db.close()
