"""Graphs without CUDA, using a stand-in that behaves like CUDA's; packed trainings."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from models import Architecture, ConvNetConfig, MLPConfig
from search.spec.recipe import Recipe
from search.training import graphs
from search.training import train as train_module
from search.training.graphs import UNROLLED, WARM_UP_CALLS, OwnRandomness, Replayed
from search.training.task import Task
from search.training.train import Training, train
from tests.search.blobs import curve, in_turn, numbers

RECIPE = Recipe(epochs=4, batch_size=8, learning_rate=3e-3, augmentation="flip-crop-erase")
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
CPU = torch.device("cpu")


class StandIn:
    """Recording runs nothing; a replay runs all recorded calls."""

    made: int = 0
    replayed: int = 0

    def __init__(self, function: Callable[[], None], calls: int) -> None:
        self._function, self._calls = function, calls

    def replay(self) -> None:
        StandIn.replayed += 1
        for _ in range(self._calls):
            self._function()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """Everything is recorded as on CUDA, and slices are as long as there."""

    def record(function: Callable[[], None], calls: int, *_: object) -> StandIn:
        StandIn.made += 1
        return StandIn(function, calls)

    StandIn.made = StandIn.replayed = 0
    monkeypatch.setattr(graphs, "can_record", lambda _: True)
    monkeypatch.setattr(train_module, "graph_pool", lambda _: None)
    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setattr(train_module, "SLICE_STEPS", {"cpu": 11})
    return StandIn


def test_a_graph_is_made_once_and_replayed_for_many_calls(recorder: type[StandIn]) -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    replayed = Replayed(OwnRandomness(0, CPU), CPU, None, unrolled=UNROLLED)
    replayed.call(count, WARM_UP_CALLS - 1)
    assert recorder.made == 0
    total = WARM_UP_CALLS - 1
    for times in (1, 2 * UNROLLED + 3, UNROLLED - 1, 1, UNROLLED):
        replayed.call(count, times)
        total += times
        assert calls == total
    assert recorder.made == 2  # a long one and one of a single call
    assert recorder.replayed == 2 + 3 + (UNROLLED - 1) + 1 + 1


def test_a_recorded_training_equals_the_plain_one_and_resumes(
    network: ConvNetConfig, task: Task, request: pytest.FixtureRequest
) -> None:
    recipe = replace(
        RECIPE, gradient_clip=1.0, label_smoothing=0.1, weight_averaging=0.2,
        weight_decay_kind="decoupled", weight_decay=1e-2,
    )  # fmt: skip
    plain = curve(network, recipe, task, partial_epoch=True)
    recorder = request.getfixturevalue("recorder")
    assert curve(network, recipe, task, partial_epoch=True) == plain
    assert recorder.made == 3  # steps one by one and unrolled, and the validation
    training = train(network, recipe, task, seed=3, partial_epoch=True)
    first = [numbers(next(training)) for _ in range(2)]
    assert first + curve(network, recipe, task, state=training.state()) == plain


@pytest.mark.usefixtures("recorder")
def test_steps_that_cannot_be_recorded_run_plainly_with_one_warning(
    network: ConvNetConfig,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = replace(RECIPE, epochs=1)
    expected = curve(network, recipe, task)

    def refuse(*_: object) -> StandIn:
        raise RuntimeError("operation not permitted when stream is capturing\nand so on")

    graphs._warn_once.cache_clear()
    monkeypatch.setattr(graphs, "record", refuse)
    with caplog.at_level(logging.WARNING):
        assert curve(network, recipe, task) == expected
        assert curve(network, recipe, task) == expected
    assert [record.getMessage() for record in caplog.records] == [
        "cannot record CUDA graphs, so training is several times slower: "
        "operation not permitted when stream is capturing"
    ]


def test_packed_is_bit_equal_to_solo_and_its_seconds_add_up(task: Task) -> None:
    def start(number: int) -> Training:
        network, recipe = TRAININGS[number]
        return train(network, recipe, task, seed=number, partial_epoch=True)

    alone, packed = [start(number) for number in range(3)], [start(number) for number in range(3)]
    solo = [list(training) for training in alone]
    began = time.perf_counter()
    together = in_turn(packed)
    spent = time.perf_counter() - began
    assert [list(map(numbers, it)) for it in together] == [list(map(numbers, it)) for it in solo]
    assert [len(curve) for curve in together] == [5, 5, 6]
    for ours, reference in zip(packed, alone, strict=True):
        states = ours.model.state_dict().values(), reference.model.state_dict().values()
        assert all(torch.equal(*pair) for pair in zip(*states, strict=True))
    counted = sum(epoch.seconds for curve in together for epoch in curve)
    assert counted <= spent
    assert counted == pytest.approx(spent, rel=0.3)
