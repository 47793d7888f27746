"""The time left of a comparison: which trials are to come is known, how long they train is not."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from search.analysis.epoch_cost import multiply_adds
from search.analysis.estimate import time_left
from search.spec.config import StudySpec
from search.spec.space import arm_config
from search.spec.study_file import find_study_file, read_study_file
from search.store.history import EpochRow
from search.store.view import DatasetFacts, State, StudyView, TrialView

IMAGES, CLASSES = (1, 28, 28), 10


def spec_of(name: str, **fields: Any) -> StudySpec:
    return replace(StudySpec(**read_study_file(find_study_file(name))), **fields)


def row(number: int, epoch: int, seconds: float) -> EpochRow:
    return EpochRow(
        trial_id=number,
        trial_number=number,
        epoch=epoch,
        train_loss=1.0,
        train_error=0.1,
        validation_loss=1.0,
        validation_error=0.1,
        best_validation_loss=1.0,
        learning_rate=1e-3,
        seconds=seconds,
        images=50_000,
        worker="host:1",
        attempt=1,
        reported_at=0.0,
    )


def trial(
    spec: StudySpec, number: int, epochs: int, seconds: float, state: State = "complete"
) -> TrialView:
    arm, repeat = spec.place_of(number)
    return TrialView(
        trial_id=number,
        number=number,
        state=state,
        params={},
        config=arm_config(spec, arm),
        parameters=None,
        curve=tuple(row(number, epoch, seconds) for epoch in range(1, epochs + 1)),
        early_look=None,
        started=None,
        finished=None,
        reason=None,
        is_baseline=False,
        arm=arm.name,
        repeat=repeat,
    )


def view_of(spec: StudySpec, trials: list[TrialView]) -> StudyView:
    return StudyView(
        name="study",
        storage="sqlite:///studies.db",
        spec=spec,
        dataset=DatasetFacts(
            name="fashion_mnist",
            title="Fashion-MNIST",
            class_names=tuple("abcdefghij"),
            image_shape=IMAGES,
            training_count=60_000,
            validation_count=10_000,
        ),
        hardware="",
        versions={},
        trials=tuple(trials),
    )


def simulated(spec: StudySpec, seed: int) -> list[TrialView]:
    """Epochs cost as on 2 CPU cores; early stopping leaves 15 to 30 of them."""
    draws = random.Random(seed)
    trials = []
    for number in range(spec.trials):
        config = arm_config(spec, spec.place_of(number)[0])
        work = multiply_adds(config.architecture, IMAGES, CLASSES)
        assert work is not None
        seconds = 2.45 * (work / 1e6) ** 0.68 * math.exp(draws.gauss(0, 0.15))
        epochs = spec.epochs if spec.patience is None else draws.randint(15, 30)
        trials.append(trial(spec, number, epochs, seconds))
    return trials


@pytest.mark.parametrize("name", ["a1_architectures", "b_depth"])
def test_once_each_arm_was_trained_the_rest_is_known(name: str) -> None:
    for seed in range(10):
        spec = spec_of(name)
        whole = simulated(spec, seed)
        done = len(spec.arms)
        estimate = time_left(view_of(spec, whole[:done]))
        assert estimate is not None
        assert 0.6 < estimate / sum(each.seconds for each in whole[done:]) < 1.6


def test_one_small_arm_says_what_the_large_ones_will_take() -> None:
    """The first arm of b_depth is a tenth of the last: an average over trials would be far off."""
    spec = spec_of("b_depth")
    for seed in range(10):
        whole = simulated(spec, seed)
        estimate = time_left(view_of(spec, whole[:1]))
        assert estimate is not None
        assert 0.5 < estimate / sum(each.seconds for each in whole[1:]) < 2


def test_running_trials_count_for_their_rest() -> None:
    spec = spec_of("b_depth", repeats=1, trials=6)
    whole = [trial(spec, number, 10, 3.0) for number in range(5)]
    running = trial(spec, 5, 4, 3.0, state="running")
    assert time_left(view_of(spec, [*whole, running])) == pytest.approx(6 * 3.0)
    assert time_left(view_of(spec, [*whole, trial(spec, 5, 10, 3.0)])) == 0.0


def test_workers_share_what_can_be_shared() -> None:
    spec = spec_of("b_depth")
    first = [trial(spec, number, 10, 3.0) for number in range(6)]
    assert time_left(view_of(spec, first), 1) == pytest.approx(12 * 30)
    assert time_left(view_of(spec, first), 2) == pytest.approx(6 * 30)
    assert time_left(view_of(spec, first), 99) == pytest.approx(30)  # one is trained by one


def test_an_arm_that_fails_early_will_do_so_again() -> None:
    spec = spec_of("b_depth")
    first = [trial(spec, number, 10, 3.0) for number in range(5)]
    failed = trial(spec, 5, 1, 3.0, state="failed")
    view = view_of(spec, [*first, failed])
    assert view.finished == 6
    assert time_left(view) == pytest.approx(2 * (5 * 30 + 3))


def test_before_anything_was_measured_there_is_no_estimate() -> None:
    spec = spec_of("b_depth")
    assert time_left(view_of(spec, [])) is None
