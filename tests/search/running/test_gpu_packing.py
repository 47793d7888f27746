"""The trial loop on a real GPU, packed as it sees fit."""

import threading
from pathlib import Path

import pytest
import torch

from data.datasets import default_data_dir
from search.running.loop import work
from search.running.packing import Packing
from search.running.worker import Worker
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.catalog import create_study
from search.store.opening import open_database
from search.store.reading import view_study
from search.training.task import load_task

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


@pytest.mark.parametrize("at_a_time", [1, 4, None])
def test_a_study_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_a_time: int | None
) -> None:
    limits: set[int] = set()
    counted = Packing.slice_done

    def watch(packing: Packing, trial: int, running: list[int]) -> None:
        limits.add(len(running))
        counted(packing, trial, running)

    monkeypatch.setattr(Packing, "slice_done", watch)
    task = load_task("digits", default_data_dir(), torch.device("cuda:0"), seed=0)
    written = {"width": {"low": 4, "high": 32}, "depth": {"low": 1, "high": 2}, "batch_size": 16}
    space = {name: read_parameter(name, value) for name, value in written.items()}
    spec = StudySpec(dataset="digits", trials=12, epochs=15, pruner="none", space=space)
    db = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
    study = create_study(db, "s", spec, task.info, validation_count=len(task.validation))
    work(
        Worker(
            db=db,
            study=study,
            spec=spec,
            task=task,
            folder=tmp_path,
            stop=threading.Event(),
            trials_at_a_time=at_a_time,
        )
    )
    view = view_study(db, study)
    db.close()
    assert view.finished == len(view.trials) == 12
    assert max(limits) == at_a_time if at_a_time else max(limits) >= 2
    assert view.best is not None
    assert view.best.best is not None
    assert view.best.best.validation_error < 0.2
