"""The loop on hand-fed curves, and on real training where that is the point."""

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from sqlalchemy import delete

from data.datasets import default_data_dir
from search.running import loop
from search.running.endings import MAX_FAILURES_IN_A_ROW
from search.running.loop import trial_seed, work
from search.running.resuming import checkpoint_path
from search.running.worker import Worker
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.store.catalog import create_study, find_study
from search.store.errors import StudyBrokenError
from search.store.opening import open_database
from search.store.pictures import announced, confusion_of
from search.store.reading import view_study
from search.store.tables import epochs
from search.training.epoch import Epoch, StoppedError
from search.training.files import save_checkpoint
from search.training.task import Task, load_task


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("digits", default_data_dir(), torch.device("cpu"), seed=0, limit=200)


def make_spec(**fields: Any) -> StudySpec:
    space = {
        "width": {"low": 4, "high": 12},
        "depth": 2,
        "hidden": [],
        "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        "dropout": {"low": 0.0, "high": 0.4},
    }
    read = {name: read_parameter(name, written) for name, written in space.items()}
    return StudySpec(**{"dataset": "digits", "trials": 4, "epochs": 3, "space": read, **fields})


@pytest.fixture
def make_worker(tmp_path: Path, task: Task) -> Callable[..., Worker]:
    """Opens the same study each time, as the next start of the command does."""

    def make(spec: StudySpec, name: str = "study") -> Worker:
        db = open_database(f"sqlite:///{tmp_path / 'studies.db'}")
        study = find_study(db, name) or create_study(
            db, name, spec, task.info, validation_count=len(task.validation)
        )
        return Worker(
            db=db,
            study=study,
            spec=spec,
            task=task,
            folder=tmp_path / name,
            stop=threading.Event(),
        )

    return make


class FedTraining:
    """Stands in for a training: yields an epoch for each loss, or raises what it is fed."""

    def __init__(self, losses: list[Any]) -> None:
        self._losses = iter(losses)
        self.epoch = -1

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        loss = next(self._losses)
        if isinstance(loss, BaseException):
            raise loss
        self.epoch += 1
        return Epoch(
            epoch=self.epoch,
            train_loss=loss,
            train_error=0.2,
            validation_loss=loss,
            validation_error=0.1,
            learning_rate=1e-3,
            seconds=0.1,
            images=100,
        )

    def slices(self) -> Iterator[Epoch]:
        return self

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def confusion(self) -> torch.Tensor:
        return torch.tensor([[8, 2], [1, 9]])

    def close(self) -> None:
        pass


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[list[Any]]], None]:
    """Trial n (in the order of their starts) goes through the n-th list; 0 is the early look."""

    def install(curves: list[list[Any]]) -> None:
        remaining = iter(curves)
        monkeypatch.setattr(loop, "train", lambda *_, **__: FedTraining(next(remaining)))

    return install


Feed = Callable[[list[list[Any]]], None]
Make = Callable[..., Worker]


def test_values_states_and_attributes(make_worker: Make, feed: Feed) -> None:
    feed([[2.0, 1.0, 0.5, 0.6], [2.0, 1.0, 0.4, 0.3], [2.0, 1.5, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    worker = make_worker(make_spec())
    work(worker)
    view = view_study(worker.db, worker.study)
    assert [trial.state for trial in view.trials] == ["complete", "complete", "pruned", "pruned"]
    first = worker.study.trials[0]
    assert first.value == 0.5
    assert first.intermediate_values == {0: 2.0, 1: 1.0, 2: 0.5, 3: 0.6}
    assert first.user_attrs["best_epoch"] == 2
    assert first.user_attrs["epochs"] == 3
    assert first.user_attrs["accuracy"] == pytest.approx(0.9)
    assert first.user_attrs["parameters"] == view.trials[0].parameters
    assert view.best is not None
    assert view.best.number == 1
    assert [len(trial.curve) for trial in view.trials] == [3, 3, 1, 0]  # pruned at once
    assert not list(worker.folder.rglob("*.pt"))


def test_the_early_look_is_no_value(make_worker: Make, feed: Feed) -> None:
    feed([[0.1, 1.0, 0.5, 0.6]] * 4)
    worker = make_worker(make_spec(pruner="none"))
    work(worker)
    assert {trial.value for trial in worker.study.trials} == {0.5}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (math.nan, "became nan"),
        (math.inf, "became inf"),
        (-math.inf, "became -inf"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory: CUDA"),
        (ZeroDivisionError("a\nb"), "ZeroDivisionError: a"),
    ],
    ids=str,
)
def test_a_trial_that_goes_wrong_fails_with_its_reason(
    make_worker: Make, feed: Feed, fault: Any, says: str
) -> None:
    good = [2.0, 1.0, 0.5, 0.4]
    feed([good, [2.0, 0.3, fault], good, good, good])
    worker = make_worker(make_spec(pruner="none"))
    work(worker)
    view = view_study(worker.db, worker.study)
    states = [trial.state for trial in view.trials]
    assert states == ["complete", "failed", "complete", "complete", "complete"]
    assert says in (view.trials[1].reason or "")
    assert view.best is not None
    assert view.best.number != 1  # though its loss was the lowest
    assert view.finished == 4


def test_a_study_in_which_everything_fails_stops(make_worker: Make, feed: Feed) -> None:
    feed([[RuntimeError("no space on the moon")]] * 20)
    worker = make_worker(make_spec(trials=10))
    with pytest.raises(StudyBrokenError, match="no space on the moon"):
        work(worker)
    assert len(worker.study.trials) == MAX_FAILURES_IN_A_ROW


def test_failures_between_successes_do_not_stop_it(make_worker: Make, feed: Feed) -> None:
    good = [2.0, 1.0, 0.5, 0.4]
    feed([[RuntimeError("x")] if number % 3 else good for number in range(40)])
    worker = make_worker(make_spec(trials=8, pruner="none"))
    work(worker)
    assert view_study(worker.db, worker.study).finished == 8


def test_the_total_is_a_total(make_worker: Make, feed: Feed) -> None:
    feed([[2.0, 1.0, 0.5, 0.4]] * 9)
    work(make_worker(make_spec()))
    work(make_worker(make_spec()))
    assert view_of(make_worker(make_spec())).finished == 4
    work(make_worker(make_spec(trials=6)))
    assert view_of(make_worker(make_spec())).finished == 6


def view_of(worker: Worker) -> Any:
    return view_study(worker.db, worker.study)


def outcome(worker: Worker) -> list[Any]:
    return [
        (
            trial.number,
            trial.state,
            dict(trial.params),
            [(row.epoch, row.train_loss, row.validation_loss) for row in trial.reports],
        )
        for trial in view_of(worker).trials
    ]


def test_a_seed_decides_a_study(make_worker: Make) -> None:
    first, second, other = (
        make_worker(make_spec(seed=seed), name)
        for seed, name in ((5, "first"), (5, "second"), (6, "other"))
    )
    for worker in (first, second, other):
        work(worker)
    assert outcome(first) == outcome(second)
    assert outcome(first) != outcome(other)


@pytest.mark.parametrize("interrupted_after", [1, 3, 5, 7])
def test_an_interrupted_study_ends_as_if_it_had_not_been(
    make_worker: Make, monkeypatch: pytest.MonkeyPatch, interrupted_after: int
) -> None:
    """Stopped at a training step after so many reports, and gone on with by the next start."""
    whole = make_worker(make_spec(), "whole")
    work(whole)

    worker = make_worker(make_spec(), "interrupted")
    reports = 0

    def count_and_stop(*args: Any) -> None:
        nonlocal reports
        reports += 1
        record(*args)
        if reports == interrupted_after:
            worker.stop.set()

    record = loop._record
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_record", count_and_stop)
        work(worker)
    assert view_of(worker).finished < 4
    again = make_worker(make_spec(), "interrupted")
    work(again)
    assert outcome(again) == outcome(whole)


def test_a_power_cut_may_leave_a_checkpoint_ahead_of_the_database(
    make_worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hasty commits were undone, and the checkpoint was not: the curve has no gap all the same."""
    whole = make_worker(make_spec(pruner="none", trials=1), "whole")
    work(whole)
    expected = outcome(whole)

    worker = make_worker(make_spec(pruner="none", trials=1), "interrupted")

    def stop_after_two(*args: Any) -> None:
        record(*args)
        if args[2].epoch == 2:
            worker.stop.set()

    record = loop._record
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_record", stop_after_two)
        work(worker)
    assert [row.epoch for row in view_of(worker).trials[0].curve] == [1, 2]
    with worker.db.engine.begin() as connection:
        connection.execute(delete(epochs).where(epochs.c.epoch == 2))
        connection.exec_driver_sql("DELETE FROM trial_intermediate_values WHERE step = 2")
    assert checkpoint_path(worker.folder, 0).exists()
    again = make_worker(make_spec(pruner="none", trials=1), "interrupted")
    work(again)
    assert outcome(again) == expected


def test_a_checkpoint_of_another_study_is_not_taken(make_worker: Make) -> None:
    """A study that was deleted may have left files under the same name and number."""
    worker = make_worker(make_spec(seed=1))
    worker.stop.set()
    lost = checkpoint_path(worker.folder, 0)
    save_checkpoint(lost, {"identity": {"trial": 1}, "training": {"epoch": 99}})
    worker.stop.clear()
    work(worker)
    assert len(view_of(worker).trials[0].curve) == 3


def test_trial_seeds_differ() -> None:
    seeds = {trial_seed(study, number) for study in range(20) for number in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_stopping_lays_the_trial_aside(make_worker: Make, feed: Feed) -> None:
    feed([[2.0, 1.0, StoppedError()], [2.0, 1.0, 0.5, 0.4]])
    worker = make_worker(make_spec(trials=1))
    work(worker)
    assert worker.study.trials[0].state == TrialState.RUNNING
    work(worker)
    assert [trial.state for trial in worker.study.trials] == [TrialState.COMPLETE]
    assert worker.study.trials[0].intermediate_values == {0: 2.0, 1: 1.0, 2: 0.5, 3: 0.4}


def test_optuna_sees_the_same_as_we_do(make_worker: Make, feed: Feed) -> None:
    feed([[2.0, 1.0, 0.5, 0.4]] * 4)
    worker = make_worker(make_spec())
    work(worker)
    plain = optuna.load_study(study_name="study", storage=worker.db.optuna)
    assert plain.best_value == 0.4
    assert plain.metric_names == ["validation loss"]


def test_trials_announce_the_pictures_that_can_be_drawn_of_them(
    make_worker: Make, feed: Feed
) -> None:
    good, stopped_at_once, stopped_later = [2.0, 1.0, 0.5, 0.6], [3.0, 0.0], [2.0, 1.5, 0.0]
    feed([good, good, stopped_later, stopped_at_once, [2.0, 1.0, math.nan], good])
    worker = make_worker(make_spec(trials=5))
    work(worker)
    trials = worker.study.trials
    assert [set(announced(trial.system_attrs)) for trial in trials] == [
        {"curves", "confusion"},
        {"curves", "confusion"},
        {"curves"},
        set(),
        {"curves"},
        {"curves", "confusion"},
    ]
    confusion_KK = confusion_of(trials[0].system_attrs, 2)
    assert confusion_KK is not None
    assert confusion_KK.tolist() == [[8, 2], [1, 9]]


def test_the_confusion_is_that_of_the_last_epoch(make_worker: Make, task: Task) -> None:
    worker = make_worker(make_spec(trials=1))
    work(worker)
    (trial,) = view_of(worker).trials
    confusion_KK = confusion_of(trial.system_attributes, 10)
    assert confusion_KK is not None
    assert confusion_KK.sum(1).tolist() == task.validation.labels_N.bincount().tolist()
    wrong = confusion_KK.sum() - np.trace(confusion_KK)
    assert wrong / confusion_KK.sum() == pytest.approx(trial.curve[-1].validation_error, abs=1e-6)
