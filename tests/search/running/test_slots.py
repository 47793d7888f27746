"""Several trials in one process: each as if it were alone, whatever happens to the others."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from sqlalchemy import select, update

from data.datasets import default_data_dir
from search.running import loop
from search.running.loop import trial_seed, work
from search.running.worker import Worker
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.catalog import create_study
from search.store.opening import open_database
from search.store.reading import view_study
from search.store.tables import leases
from search.training.epoch import Epoch
from search.training.task import Task, load_task
from search.training.train import Training, train


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("digits", default_data_dir(), torch.device("cpu"), seed=0, limit=800)


def make_spec(**fields: Any) -> StudySpec:
    space = {
        "width": {"low": 4, "high": 12},
        "depth": {"low": 1, "high": 2},
        "hidden": [],
        "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "dropout": {"low": 0.0, "high": 0.4},
    }
    read = {name: read_parameter(name, written) for name, written in space.items()}
    fields = {"dataset": "digits", "trials": 6, "epochs": 3, "space": read, **fields}
    return StudySpec(**fields)


@pytest.fixture
def make_worker(tmp_path: Path, task: Task) -> Iterator[Callable[..., Worker]]:
    databases = []

    def make(at_a_time: int, name: str = "study", **fields: Any) -> Worker:
        db = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
        databases.append(db)
        spec = make_spec(**fields)
        study = create_study(db, name, spec, task.info, validation_count=len(task.validation))
        return Worker(
            db=db,
            study=study,
            spec=spec,
            task=task,
            folder=tmp_path / name,
            stop=threading.Event(),
            trials_at_a_time=at_a_time,
        )

    yield make
    for db in databases:
        db.close()


Make = Callable[..., Worker]


def nothing(_number: int, _slices: int) -> None:
    pass


class Watch:
    """Knows which trials are being trained, by wrapping each training's slices."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[int] = []
        self.now: set[int] = set()
        self.together: list[set[int]] = []
        self.before_slice: Callable[[int, int], None] = nothing
        begin = loop._train

        def watched(worker: Worker, lease: Any, heartbeat: Any) -> Any:
            number = lease.trial_number
            self.started.append(number)
            self.now.add(number)
            course = begin(worker, lease, heartbeat)
            slices = 0
            try:
                while True:
                    self.together.append(set(self.now))
                    self.before_slice(number, slices)
                    try:
                        next(course)
                    except StopIteration as ended:
                        return ended.value
                    slices += 1
                    yield
            finally:
                course.close()
                self.now.discard(number)

        monkeypatch.setattr(loop, "_train", watched)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


def check_curves(worker: Worker) -> None:
    """Every report of every trial is what training its configuration alone gives."""
    for trial in view_study(worker.db, worker.study).trials:
        assert trial.config is not None
        alone: Training = train(
            trial.config.architecture,
            trial.config.recipe,
            worker.task,
            seed=trial_seed(worker.spec.seed, trial.number),
            early_look=True,
        )
        curve: dict[int, Epoch] = {epoch.epoch: epoch for epoch in alone}
        for row in trial.reports:
            assert row.train_loss == curve[row.epoch].train_loss
            assert row.validation_loss == curve[row.epoch].validation_loss


def test_each_trial_is_trained_as_if_it_were_alone(make_worker: Make, watch: Watch) -> None:
    worker = make_worker(3)
    work(worker)
    view = view_study(worker.db, worker.study)
    assert view.finished == len(view.trials) == 6
    assert max(map(len, watch.together)) == 3
    assert len({trial.config.architecture for trial in view.trials if trial.config}) > 3
    check_curves(worker)


def test_a_free_place_is_taken_at_once(make_worker: Make, watch: Watch) -> None:
    """As long as there are trials to begin, three are held at every slice."""
    worker = make_worker(3, trials=8)
    seen: list[tuple[int, int]] = []

    def count(_number: int, _slices: int) -> None:
        seen.append((len(worker.study.get_trials(deepcopy=False)), len(held(worker))))

    watch.before_slice = count
    work(worker)
    assert {now for begun, now in seen if begun < 8} == {3}
    assert "PRUNED" in {trial.state.name for trial in worker.study.trials}


def test_one_at_a_time_is_what_it_always_was(make_worker: Make) -> None:
    one, default = make_worker(1, "one"), make_worker(1, "default")
    work(one)
    work(replace(default, trials_at_a_time=None))
    curves = [
        [[row.validation_loss for row in trial.reports] for trial in view.trials]
        for view in (view_study(worker.db, worker.study) for worker in (one, default))
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    "fault",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_a_trial_without_room_beside_others_is_trained_alone(
    make_worker: Make, watch: Watch, fault: Exception
) -> None:
    def refuse(number: int, slices: int) -> None:
        if number == 1 and slices == 5 and len(watch.now) > 1:
            raise fault

    watch.before_slice = refuse
    worker = make_worker(3, pruner="none")
    work(worker)
    states = [trial.state for trial in worker.study.trials]
    assert states == [TrialState.COMPLETE] * 6
    assert watch.started.count(1) == 2
    assert {1} in watch.together
    again = max(n for n, now in enumerate(watch.together) if now == {1})
    assert all(now == {1} or 1 not in now for now in watch.together[again - 20 : again])
    check_curves(worker)  # its own, begun anew, and those of the others


def test_a_trial_without_room_even_alone_fails_with_its_reason(
    make_worker: Make, watch: Watch
) -> None:
    def refuse(number: int, slices: int) -> None:
        if number == 1 and slices == 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    watch.before_slice = refuse
    worker = make_worker(3, pruner="none")
    work(worker)
    view = view_study(worker.db, worker.study)
    assert view.finished == 6
    assert [trial.state for trial in view.trials].count("failed") == 1
    assert view.trials[1].reason == "out of memory: CUDA out of memory. Tried to allocate 9 GiB"
    assert watch.started.count(1) == 2


def test_a_faulty_trial_leaves_the_others_alone(make_worker: Make, watch: Watch) -> None:
    def refuse(number: int, slices: int) -> None:
        if number == 1 and slices == 5:
            raise ZeroDivisionError("oh")

    watch.before_slice = refuse
    worker = make_worker(3, pruner="none")
    work(worker)
    view = view_study(worker.db, worker.study)
    assert [trial.state for trial in view.trials].count("failed") == 1
    assert view.trials[1].reason == "ZeroDivisionError: oh"
    assert watch.started.count(1) == 1
    check_curves(worker)


def held(worker: Worker) -> list[int]:
    """Leases that are held by somebody."""
    with worker.db.engine.connect() as connection:
        return list(connection.scalars(select(leases.c.trial_id).where(leases.c.expires_at > 0)))


def test_stopping_lays_all_trials_aside(make_worker: Make, watch: Watch) -> None:
    worker = make_worker(3, pruner="none")

    def stop(number: int, slices: int) -> None:
        if number == 1 and slices == 9:
            assert len(held(worker)) == 3
            worker.stop.set()

    watch.before_slice = stop
    work(worker)
    assert [trial.state for trial in worker.study.trials] == [TrialState.RUNNING] * 3
    assert not held(worker)
    worker.stop.clear()
    watch.before_slice = nothing
    work(worker)
    assert view_study(worker.db, worker.study).finished == 6
    check_curves(worker)


def test_a_lost_lease_costs_that_trial_alone(make_worker: Make, watch: Watch) -> None:
    worker = make_worker(3, pruner="none", trials=3)
    moments = [(1, 5), (2, 12)]

    def take(number: int, slices: int) -> None:
        if (number, slices) not in moments:
            return
        moments.remove((number, slices))
        mine = update(leases).where(leases.c.trial_id == trial_id(worker, 1))
        with worker.db.engine.begin() as connection:
            if number == 1:
                connection.execute(mine.values(token=99, worker="elsewhere:1:1:x"))
            else:  # the other worker hands it back
                connection.execute(mine.values(expires_at=None))

    watch.before_slice = take
    work(worker)
    assert watch.started.count(1) == 2
    assert watch.started.count(0) == watch.started.count(2) == 1
    assert view_study(worker.db, worker.study).finished == 3
    check_curves(worker)


def trial_id(worker: Worker, number: int) -> int:
    return int(worker.study.trials[number]._trial_id)
