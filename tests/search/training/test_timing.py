"""Times of epochs from single steps."""

import time
from dataclasses import replace

import pytest
import torch

from models import ConvNetConfig
from search.spec.recipe import Recipe
from search.training import timing
from search.training.task import Task
from search.training.timing import epoch_seconds
from search.training.train import train


class SlowTraining:
    """Takes 10 ms a step; the first takes 200."""

    def __init__(self, task: Task, batch: int) -> None:
        self.task, self.batch, self.steps = task, batch, 0

    def __next__(self) -> None:
        time.sleep(0.2 if self.steps == 0 else 0.01)
        self.steps += 1


def test_an_epoch_is_so_many_steps_of_the_measured_ones(
    task: Task, network: ConvNetConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SlowTraining] = []

    def fake(_: object, recipe: Recipe, task: Task, **__: object) -> SlowTraining:
        made.append(SlowTraining(task, recipe.batch_size))
        return made[-1]

    monkeypatch.setattr(timing, "train", fake)
    seconds = epoch_seconds(network, Recipe(epochs=1, batch_size=16), task, seconds=0.1)
    assert seconds == pytest.approx(0.01 * (200 // 16), rel=0.5)
    (training,) = made
    assert 5 <= training.steps <= 12
    assert len(training.task.training) == 16
    assert len(training.task.validation) == round(16 * 64 / 200)  # the same share as in an epoch


def test_a_batch_larger_than_the_data_is_one_step(task: Task, network: ConvNetConfig) -> None:
    assert 0 < epoch_seconds(network, Recipe(epochs=1, batch_size=4096), task, seconds=0.0) < 5


def test_it_is_of_the_order_of_a_real_epoch(task: Task, network: ConvNetConfig) -> None:
    """Loosely: other work on the machine comes and goes."""
    recipe = Recipe(epochs=3, batch_size=20)
    training = train(network, recipe, task, seed=0)
    next(training)
    began = time.perf_counter()
    next(training)
    real = time.perf_counter() - began
    estimated = epoch_seconds(network, recipe, task, seconds=0.3)
    assert real / 10 < estimated < 10 * real


def test_it_leaves_the_task_and_torchs_randomness_alone(task: Task, network: ConvNetConfig) -> None:
    before, state = replace(task), torch.get_rng_state()
    epoch_seconds(network, Recipe(epochs=1, batch_size=16), task, seconds=0.0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(task.training.images_NCHW, before.training.images_NCHW)
    assert len(task.training) == 200
