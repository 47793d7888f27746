"""Several trials in one process: each as if it were alone, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from threading import Event
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from optuna.trial import TrialState
from sqlalchemy import select, update

from data.datasets import default_data_dir
from search.running import worker
from search.running.run import Run
from search.running.trial import checkpoint_path, is_out_of_memory, trial_seed
from search.running.worker import TRIALS_PER_GPU, train_trials
from search.spec.config import StudySpec
from search.store.leases import MAX_ATTEMPTS
from search.store.schema import leases
from search.store.views import view_study
from search.training.epoch import DeviceLostError, Epoch
from search.training.task import load_study_task
from search.training.train import train

Make = Callable[..., Run]


class Watch:
    """Trains as `train` does, and knows which trials are being trained.

    Attributes:
        before_slice: called with a trial's number and how many slices of it were trained.
    """

    def __init__(self) -> None:
        self.started: list[int] = []
        self.now: set[int] = set()
        self.together: list[set[int]] = []
        self.before_slice: Callable[[int, int], object] = lambda _number, _slices: None
        self._numbers = {trial_seed(0, number): number for number in range(20)}

    def __call__(self, *arguments: Any, seed: int, **options: Any) -> Any:
        training, number = train(*arguments, seed=seed, **options), self._numbers[seed]
        slices = training.slices
        self.started.append(number)

        def watched() -> Iterator[Epoch | None]:
            self.now.add(number)
            inner, end = slices(), object()
            try:
                for done in count():
                    self.together.append(set(self.now))
                    self.before_slice(number, done)
                    if (epoch := next(inner, end)) is end:
                        return
                    yield epoch
            finally:
                self.now.discard(number)

        training.slices = watched  # type: ignore[method-assign]
        return training


@pytest.fixture
def watch() -> Watch:
    return Watch()


def check_curves(run: Run) -> None:
    """Every report of every trial is what training its configuration alone gives."""
    for trial in view_study(run.study).trials:
        config, seed = trial.config, trial_seed(run.spec.seed, trial.number)
        assert config is not None
        alone = train(config.architecture, config.recipe, run.task, seed=seed, partial_epoch=True)
        curve = {epoch.epoch: epoch for epoch in alone}
        for row in trial.reports:
            assert row.train_loss == curve[row.epoch].train_loss
            assert row.validation_loss == curve[row.epoch].validation_loss


def held(run: Run) -> Sequence[int]:
    """Trials whose lease somebody holds."""
    with run.db.engine.connect() as connection:
        return connection.scalars(select(leases.c.trial_id).where(leases.c.expires_at > 0)).all()


def test_each_trial_is_trained_as_if_it_were_alone(make_run: Make, watch: Watch) -> None:
    run = make_run(at_a_time=3, trials=6, train=watch)
    train_trials(run)
    view = view_study(run.study)
    assert view.finished == len(view.trials) == 6
    assert max(map(len, watch.together)) == 3
    check_curves(run)


def test_who_finds_no_work_looks_less_and_less_often(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = list[float]()

    class Clock(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            if sum(waits) > 600:
                self.set()
            return self.is_set()

    monkeypatch.setattr(worker, "claim", lambda *_, **__: "wait")
    train_trials(replace(make_run(), stop=Clock()))
    assert waits[0] == 0.5
    assert len(waits) < 150


OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
CUDNN = RuntimeError("FIND was unable to find an engine to execute this computation")


def test_lack_of_memory_is_recognised() -> None:
    assert all(map(is_out_of_memory, (OUT, CUBLAS, CUDNN, MemoryError())))
    assert not is_out_of_memory(RuntimeError("CUDA error: unspecified launch failure"))


@pytest.mark.parametrize(
    ("fault", "also_alone", "reason", "starts"),
    [
        (OUT, False, None, 2),
        (OUT, True, "out of memory: CUDA out of memory. Tried to allocate 9 GiB", 2),
        (ZeroDivisionError("oh"), True, "ZeroDivisionError: oh", 1),
    ],
    ids=["crowded", "even alone", "faulty"],
)
def test_a_bad_trial_is_trained_alone_or_fails_and_leaves_the_others_alone(
    make_run: Make, watch: Watch, fault: Exception, also_alone: bool, reason: str, starts: int
) -> None:
    def refuse(number: int, slices: int) -> None:
        if number == 1 and slices == 5 and (also_alone or len(watch.now) > 1):
            raise fault

    watch.before_slice = refuse
    run = make_run(at_a_time=3, trials=6, pruner="none", train=watch)
    train_trials(run)
    view = view_study(run.study)
    assert (view.finished, view.count("failed")) == (6, int(also_alone))
    assert view.trials[1].reason == reason
    assert watch.started.count(1) == starts
    assert max(map(len, watch.together)) == 3
    if starts == 2:
        assert watch.started[:4] == [0, 1, 2, 1]  # before any new one
        again = max(n for n, now in enumerate(watch.together) if now == {1})
        assert all(now == {1} or 1 not in now for now in watch.together[again - 3 : again])
        assert max(map(len, watch.together[again:])) == 1
    check_curves(run)  # its own, restarted, and those of the others


def test_stopping_interrupts_all_trials(make_run: Make, watch: Watch) -> None:
    run = make_run(at_a_time=3, trials=6, pruner="none", train=watch)

    def stop(number: int, slices: int) -> None:
        if number == 1 and slices == 9:
            assert len(held(run)) == 3
            run.stop.set()

    watch.before_slice = stop
    train_trials(run)
    assert [trial.state for trial in run.study.study.trials] == [TrialState.RUNNING] * 3
    assert not held(run)
    run.stop.clear()
    watch.before_slice = lambda _number, _slices: None
    train_trials(run)
    assert view_study(run.study).finished == 6
    check_curves(run)


def test_a_lost_lease_costs_only_that_trial(make_run: Make, watch: Watch) -> None:
    run = make_run(at_a_time=3, trials=3, pruner="none", train=watch)
    changes = {
        (1, 5): {"token": 99, "claim": "elsewhere", "worker": "elsewhere:1:1:x"},
        (2, 9): {"expires_at": None},  # the other worker hands it back
    }

    def take(number: int, slices: int) -> None:
        change = changes.pop((number, slices), None)
        if change is not None:
            of_second = select(leases.c.trial_id).order_by(leases.c.trial_id).offset(1).limit(1)
            wanted = leases.c.trial_id == of_second.scalar_subquery()
            with run.db.engine.begin() as connection:
                connection.execute(update(leases).where(wanted).values(change))

    watch.before_slice = take
    train_trials(run)
    assert watch.started.count(1) == 2
    assert watch.started.count(0) == watch.started.count(2) == 1
    assert view_study(run.study).finished == 3
    check_curves(run)


@pytest.fixture
def lost(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Run, Callable[[], bool]], None]:
    """While trial 1 is in turn and the condition holds, the GPU is lost."""

    def train_until(run: Run, condition: Callable[[], bool]) -> None:
        def fail(number: int, _slices: int) -> None:
            if number == 1 and condition():
                raise RuntimeError("CUDA error: unspecified launch failure")

        watch.before_slice = fail
        with pytest.raises(DeviceLostError):
            train_trials(run)

    probe = Mock(side_effect=DeviceLostError("it is lost"))
    monkeypatch.setattr("search.running.worker.check_device", probe)
    return train_until


def abandon(run: Run) -> None:
    """As when the process that holds the trials has ended."""
    with run.db.engine.begin() as connection:
        connection.execute(update(leases).values(expires_at=1.0, extended=1))


def test_a_lost_gpu_fails_no_trial(make_run: Make, watch: Watch, lost: Any) -> None:
    run = make_run(at_a_time=3, trials=6, pruner="none", train=watch)
    paths = [checkpoint_path(run.checkpoints, number) for number in range(3)]
    lost(run, lambda: all(path.exists() for path in paths))
    assert [trial.state for trial in run.study.study.trials] == [TrialState.RUNNING] * 3
    assert len(held(run)) == 3  # left to be taken over
    assert all(path.exists() for path in paths)
    abandon(run)
    watch.before_slice = lambda _number, _slices: None
    train_trials(run)
    assert view_study(run.study).finished == len(run.study.study.trials) == 6
    check_curves(run)


def test_a_trial_that_loses_the_gpu_each_time_fails(
    make_run: Make, watch: Watch, lost: Any
) -> None:
    run = make_run(at_a_time=1, trials=3, pruner="none", train=watch)
    path = checkpoint_path(run.checkpoints, 1)
    for _ in range(MAX_ATTEMPTS):
        lost(run, path.exists)
        abandon(run)
    train_trials(run)
    view = view_study(run.study)
    assert view.finished == 3
    assert [trial.number for trial in view.trials if trial.state == "failed"] == [1]
    assert view.trials[1].reason == (
        "abandoned 3 times without a new epoch: each time its worker was gone"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("at_a_time", [1, 4, None])
def test_on_a_gpu(make_run: Make, watch: Watch, at_a_time: int | None) -> None:
    task = load_study_task(StudySpec(dataset="digits"), default_data_dir(), torch.device("cuda:0"))
    space = {"width": {"low": 4, "high": 32}, "depth": {"low": 1, "high": 2}, "batch_size": 16}
    fields = {"trials": 12, "epochs": 15, "pruner": "none"}
    run = make_run(at_a_time=at_a_time, train=watch, task=task, space=space, **fields)
    train_trials(run)
    view = view_study(run.study)
    assert view.finished == len(view.trials) == 12
    assert max(map(len, watch.together)) == (at_a_time or TRIALS_PER_GPU)
    assert view.best is not None
    assert view.best.best is not None
    assert view.best.best.validation_error < 0.2
