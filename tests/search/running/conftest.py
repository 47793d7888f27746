"""Fixtures of the trial loop: a small study on digits, and fed curves in place of training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from data.datasets import default_data_dir
from search.dashboard.artifacts import TrialPictures
from search.running.run import Run
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.opening import open_database
from search.store.studies import create_study, find_study
from search.training.task import Task, load_study_task
from tests.search.running.made_up import FedTraining

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
    tmp_path: Path, small_task: Task, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Run]]:
    """Opens the study of a name, made if need be, as the next start of a command does."""
    opened = []
    monkeypatch.setattr(TrialPictures, "upload", lambda *_: None)  # they take most of the time

    def make(name: str = "study", at_a_time: int | None = None, **fields: Any) -> Run:
        space = {key: read_parameter(key, written) for key, written in SPACE.items()}
        spec = StudySpec(
            **{"dataset": "digits", "trials": 4, "epochs": 3, "space": space, **fields}
        )
        db = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
        opened.append(db)
        study = find_study(db, name) or create_study(
            db, name, spec, small_task.info, validation_count=len(small_task.validation)
        )
        return Run(
            study=study,
            spec=spec,
            task=small_task,
            folder=tmp_path / name,
            stop=threading.Event(),
            trials_at_a_time=at_a_time,
        )

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def fed() -> Callable[[list[list[Any]]], Callable[..., Any]]:
    """`train` of a Run: its n-th start goes through the n-th curve; 0 is inside the first epoch."""

    def make(curves: list[list[Any]]) -> Callable[..., Any]:
        remaining = iter(curves)
        return lambda *_, **__: FedTraining(next(remaining))

    return make
