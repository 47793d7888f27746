"""What is swept from a study's folder, and what stays there."""

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from data.datasets import default_data_dir
from search.running.loop import train_trials
from search.running.run import Run, checkpoint_path
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.catalog import create_study, find_study
from search.store.history import add_result, complete_result
from search.store.leftovers import sweep
from search.store.opening import open_database
from search.store.storage import Database, StorageError
from search.training.files import save_checkpoint
from search.training.task import load_task


def write(folder: Path, trial: Any, **changes: Any) -> Path:
    """A trial's checkpoint, saved twice."""
    path = checkpoint_path(folder, trial.number)
    identity = {"trial": trial._trial_id, "started": str(trial.datetime_start), **changes}
    for epoch in (1, 2):
        save_checkpoint(path, {"identity": identity, "training": {"epoch": epoch}})
    return path


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_checkpoints_go_when_their_trials_have_ended(
    db: Database, study: optuna.Study, tmp_path: Path
) -> None:
    """Whatever state a trial ended in; the one that runs keeps its own."""
    trials = [study.ask() for _ in range(4)]
    states = ("COMPLETE", "PRUNED", "FAIL")
    for trial, state in zip(trials, states, strict=False):
        value = 0.5 if state == "COMPLETE" else None
        study.tell(trial, value, optuna.trial.TrialState[state])
    for trial in study.trials:
        write(tmp_path, trial)
    sweep(db, study, tmp_path)
    assert files(tmp_path) == ["trial-3.previous.pt", "trial-3.pt"]


def test_a_checkpoint_goes_whose_trial_is_gone(
    db: Database, study: optuna.Study, tmp_path: Path
) -> None:
    """As when the database is an older copy of itself."""
    write(tmp_path, study.ask().study.trials[0]).rename(tmp_path / "checkpoints" / "trial-7.pt")
    sweep(db, study, tmp_path)
    assert files(tmp_path) == ["trial-0.previous.pt"]


def test_a_damaged_checkpoint_goes_with_its_trial(
    db: Database, study: optuna.Study, tmp_path: Path
) -> None:
    first, second = study.ask(), study.ask()
    study.tell(first, 0.5)
    for trial in (first, second):
        write(tmp_path, study.trials[trial.number]).write_bytes(b"cut short")
    sweep(db, study, tmp_path)
    assert files(tmp_path) == ["trial-1.previous.pt", "trial-1.pt"]


def test_final_trainings_go_once_they_were_tested(
    db: Database, study: optuna.Study, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoints" / "final-0.pt"
    save_checkpoint(path, {"identity": {}})
    os.utime(path, (time.time() - 60,) * 2)
    result = add_result(db, study_name=study.study_name, trial_number=0, seeds=[0])
    sweep(db, study, tmp_path)
    assert files(tmp_path) == ["final-0.pt"]  # its scoring has not ended
    complete_result(db, result, {"accuracy": 0.5})
    save_checkpoint(path.with_name("final-1.pt"), {"identity": {}})
    os.utime(path.with_name("final-1.pt"), (time.time() + 60,) * 2)
    sweep(db, study, tmp_path)
    assert files(tmp_path) == ["final-1.pt"]  # trained since


@pytest.mark.parametrize("name", ["notes.pt", "trial-x.pt", "trial-1.pt.bak", "trial--1.pt"])
def test_a_persons_files_stay(db: Database, study: optuna.Study, tmp_path: Path, name: str) -> None:
    file = tmp_path / "checkpoints" / name
    file.parent.mkdir()
    file.touch()
    sweep(db, study, tmp_path)
    assert file.exists()


def test_what_goes_wrong_is_only_told(
    db: Database,
    study: optuna.Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away(*_: object) -> None:
        raise StorageError("away")

    write(tmp_path, study.ask().study.trials[0])
    monkeypatch.setattr("search.store.leftovers.with_retry", away)
    sweep(db, study, tmp_path)
    assert "away" in caplog.text
    assert files(tmp_path) == ["trial-0.previous.pt", "trial-0.pt"]


SPACE = {"width": {"low": 4, "high": 12}, "depth": 1, "hidden": []}


def train(folder: Path, trials: int) -> None:
    """Carry the study on to its end, as `python -m search.worker` does."""
    torch.set_num_threads(1)
    spec = StudySpec(
        dataset="digits",
        trials=trials,
        epochs=15,
        pruner="none",
        sampler="random",
        space={name: read_parameter(name, written) for name, written in SPACE.items()},
    )
    task = load_task("digits", default_data_dir(), torch.device("cpu"), seed=0, limit=200)
    db = open_database(f"sqlite:///{folder / 'studies.db'}")
    study = find_study(db, "s") or create_study(db, "s", spec, task.info, validation_count=40)
    worker = Run(
        db=db, study=study, spec=spec, task=task, folder=folder / "s", stop=threading.Event()
    )
    sweep(db, study, worker.folder)
    train_trials(worker)
    sweep(db, study, worker.folder)
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
    load_task("digits", default_data_dir(), torch.device("cpu"), seed=0)  # loads libraries
    for _ in range(kills):
        process = context.Process(target=train, args=(tmp_path, kills))
        before = written(folder)
        process.start()
        while written(folder) == before and process.is_alive():
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()  # nothing where it has ended by itself
        process.join()
    process = context.Process(target=train, args=(tmp_path, kills))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert [path for path in (tmp_path / "s").rglob("*") if path.is_file()] == []
