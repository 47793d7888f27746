"""Trainings advanced in turn, a slice at a time, as several trials share one GPU."""

import time
from dataclasses import asdict, replace

import pytest
import torch

from models import ConvNetConfig, MLPConfig
from models.architecture import Architecture
from search.spec.recipe import Recipe
from search.training.epoch import Epoch
from search.training.task import Task
from search.training.train import Training, train

RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=3e-3, augmentation="flip-crop-erase")
TRAININGS: list[tuple[Architecture, Recipe]] = [
    (
        ConvNetConfig(channels=(8, 8), batch_norm=True, dropout_conv=0.2, hidden=(16,)),
        replace(RECIPE, weight_averaging=0.2),
    ),
    (
        ConvNetConfig(channels=(4, 6, 8), residual=True, head="global"),
        replace(RECIPE, optimizer="sgd", batch_size=32, augmentation="rotate-jitter-erase"),
    ),
    (MLPConfig(hidden=(32,), dropout=0.5), replace(RECIPE, epochs=5, label_smoothing=0.1)),
]


def figures(epoch: Epoch) -> dict[str, float]:
    return {key: value for key, value in asdict(epoch).items() if key != "seconds"}


def in_turn(trainings: list[Training]) -> list[list[Epoch]]:
    """The epochs of each, all advanced together."""
    curves: list[list[Epoch]] = [[] for _ in trainings]
    turns = [(training.slices(), curve) for training, curve in zip(trainings, curves, strict=True)]
    while turns:
        portions, curve = turns.pop(0)
        try:
            epoch = next(portions)
        except StopIteration:
            continue
        torch.rand(1)  # others draw from torch's global generator as well
        if epoch is not None:
            curve.append(epoch)
        turns.append((portions, curve))
    return curves


def test_packed_is_bit_equal_to_solo(task: Task) -> None:
    def start(number: int) -> Training:
        network, recipe = TRAININGS[number]
        return train(network, recipe, task, seed=number, early_look=True)

    solo = [list(start(number)) for number in range(3)]
    packed_trainings = [start(number) for number in range(3)]
    packed = in_turn(packed_trainings)
    for alone, together in zip(solo, packed, strict=True):
        assert [figures(epoch) for epoch in together] == [figures(epoch) for epoch in alone]
    assert [len(curve) for curve in packed] == [4, 4, 6]
    for number, training in enumerate(packed_trainings):
        alone = start(number)
        list(alone)
        for ours, reference in zip(
            training.model.state_dict().values(), alone.model.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, reference)


def test_slices_and_epochs_of_one_training_can_be_mixed(task: Task) -> None:
    network, recipe = TRAININGS[0]
    whole = [figures(epoch) for epoch in train(network, recipe, task, seed=1)]
    training = train(network, recipe, task, seed=1)
    portions = training.slices()
    assert next(portions) is None
    assert [figures(epoch) for epoch in training] == whole


def test_a_slice_is_short(task: Task) -> None:
    network, recipe = TRAININGS[0]
    training = train(network, recipe, task, seed=1)
    portions = list(training.slices())
    steps = len(task.training) // recipe.batch_size
    assert len(portions) == recipe.epochs * (steps + 2)  # and scoring, and the report
    assert sum(epoch is not None for epoch in portions) == recipe.epochs


def test_seconds_of_packed_trainings_add_up_to_the_time_spent(task: Task) -> None:
    trainings = [train(network, recipe, task, seed=0) for network, recipe in TRAININGS]
    started = time.perf_counter()
    curves = in_turn(trainings)
    spent = time.perf_counter() - started
    counted = sum(epoch.seconds for curve in curves for epoch in curve)
    assert counted <= spent
    assert counted == pytest.approx(spent, rel=0.3)
