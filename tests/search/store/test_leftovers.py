"""After kills at any moment, no file of a trial is left when the study has ended."""

import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from data.datasets import default_data_dir
from search.running.run import Run
from search.running.worker import train_trials
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.folders import sweep
from search.store.opening import open_database
from search.store.studies import create_study, find_study
from search.training.task import load_study_task

SPACE = {"width": {"low": 4, "high": 12}, "depth": 1, "hidden": []}


def train(folder: Path, trials: int) -> None:
    """Resume the study and train it to its end, as `python -m search.worker` does."""
    torch.set_num_threads(1)
    spec = StudySpec(
        dataset="digits",
        limit=200,
        trials=trials,
        epochs=15,
        pruner="none",
        sampler="random",
        space={name: read_parameter(name, written) for name, written in SPACE.items()},
    )
    task = load_study_task(spec, default_data_dir(), torch.device("cpu"))
    db = open_database(f"sqlite:///{folder / 'studies.db'}")
    study = find_study(db, "s") or create_study(db, "s", spec, task.info, validation_count=40)
    worker = Run(
        study=study,
        spec=spec,
        task=task,
        folder=folder / "s",
        checkpoints=folder / "s" / "checkpoints",
        stop=threading.Event(),
    )
    sweep(study, worker.folder)
    train_trials(worker)
    sweep(study, worker.folder)
    db.close()


def written(folder: Path) -> set[Any]:
    found = set()
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):
            found.add((path, path.stat().st_mtime_ns))
    return found


@pytest.mark.faults
def test_after_kills_at_any_moment_no_file_is_left(
    tmp_path: Path, times: Callable[[int, int], int]
) -> None:
    context, rng = multiprocessing.get_context("fork"), random.Random(0)
    kills, folder = times(4, 200), tmp_path / "s" / "checkpoints"
    load_study_task(
        StudySpec(dataset="digits"), default_data_dir(), torch.device("cpu")
    )  # loads libraries
    for _ in range(kills):
        process = context.Process(target=train, args=(tmp_path, kills))
        before = written(folder)
        process.start()
        while written(folder) == before and process.is_alive():
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()  # does nothing if it has ended by itself
        process.join()
    process = context.Process(target=train, args=(tmp_path, kills))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [path for path in (tmp_path / "s").rglob("*") if path.is_file()] == []
