"""Graphs without CUDA, using a stand-in that behaves like CUDA's; packed trainings."""

import logging
import random
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.torch_version import TorchVersion

from models import Architecture, ConvNetConfig, MLPConfig, build
from search.spec.recipe import Recipe
from search.training import graphs
from search.training import train as train_module
from search.training.graphs import UNROLLED, WARM_UP_CALLS, OwnRandomness, Pool, Replayed
from search.training.task import Task
from search.training.train import Training, train
from tests.search.blobs import curve, in_turn, numbers

RECIPE = Recipe(epochs=4, batch_size=8, learning_rate=3e-3, augmentation="flip-crop-erase")
SHORT = replace(RECIPE, epochs=2)
TRAININGS: list[tuple[Architecture, Recipe]] = [
    (
        ConvNetConfig(channels=(8, 8), batch_norm=True, dropout_conv=0.2, hidden=(16,)),
        replace(SHORT, weight_averaging=0.2),
    ),
    (
        ConvNetConfig(channels=(4, 6, 8), residual=True, head="global"),
        replace(SHORT, optimizer="sgd", batch_size=32, augmentation="rotate-jitter-erase"),
    ),
    (MLPConfig(hidden=(32,), dropout=0.5), replace(SHORT, epochs=3, label_smoothing=0.1)),
]
CPU = torch.device("cpu")


class StandIn:
    """Recording runs nothing; a replay runs all recorded calls.

    Like torch, it refuses the memory of graphs that have all been freed.
    """

    made: int = 0
    replayed: int = 0
    users: ClassVar[dict[object, weakref.WeakSet[Any]]] = {}

    def __init__(self, function: Callable[[], None], calls: int, _: object, pool: Any) -> None:
        handle = pool.handle()
        if handle in StandIn.users and not StandIn.users[handle]:
            raise RuntimeError("use_count > 0 INTERNAL ASSERT FAILED")
        StandIn.users.setdefault(handle, weakref.WeakSet()).add(self)
        StandIn.made += 1
        self._function, self._calls, self._handle = function, calls, handle
        pool.graphs.add(self)

    def pool(self) -> object:
        return self._handle

    def replay(self) -> None:
        StandIn.replayed += 1
        for _ in range(self._calls):
            self._function()


class RunningGraph:
    """In place of torch's graph: what it records runs at once, and a replay runs nothing."""

    registered: int = 0

    def register_generator_state(self, _: torch.Generator) -> None:
        RunningGraph.registered += 1

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        pass

    def capture_end(self) -> None:
        pass

    def replay(self) -> None:
        pass


@pytest.fixture
def sync_modes(monkeypatch: pytest.MonkeyPatch) -> list[int | str]:
    """Recording is tried as on CUDA. The list takes up each mode that is set, after the first."""
    modes: list[int | str] = [0]
    monkeypatch.setattr(graphs, "can_record", lambda _: True)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    graphs._warn_once.cache_clear()
    return modes


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, sync_modes: list[int | str]) -> type[StandIn]:  # noqa: ARG001
    """Everything is recorded as on CUDA, and slices are as long as there."""
    StandIn.made = StandIn.replayed = 0
    StandIn.users.clear()
    monkeypatch.setattr(graphs, "record", StandIn)
    monkeypatch.setattr(train_module, "SLICE_STEPS", {"cpu": 11})
    return StandIn


def replayed_on_cpu(**options: Any) -> Replayed:
    return Replayed(OwnRandomness(0, CPU), CPU, Pool(), **options)


def test_a_graph_is_made_once_and_replayed_for_many_calls(recorder: type[StandIn]) -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    replayed = replayed_on_cpu(unrolled=UNROLLED)
    replayed.call(count, WARM_UP_CALLS - 1)
    assert recorder.made == 0
    total = WARM_UP_CALLS - 1
    for times in (1, 2 * UNROLLED + 3, UNROLLED - 1, 1, UNROLLED):
        replayed.call(count, times)
        total += times
        assert calls == total
    assert recorder.made == 2  # a long one and one of a single call
    assert recorder.replayed == 2 + 3 + (UNROLLED - 1) + 1 + 1


@pytest.mark.parametrize(
    ("frozen_epochs", "recordings"),
    [
        (0, 3),  # steps one by one and unrolled, and the validation
        (1, 5),  # the steps again once all layers learn
    ],
)
def test_a_recorded_training_equals_the_plain_one_and_resumes(
    network: ConvNetConfig,
    task: Task,
    frozen_epochs: int,
    recordings: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(build(network, task.image_shape, task.classes).state_dict(), weights)
    recipe = replace(
        RECIPE, gradient_clip=1.0, label_smoothing=0.1, weight_averaging=0.2,
        weight_decay_kind="decoupled", weight_decay=1e-2,
        initial_weights=str(weights), frozen_epochs=frozen_epochs,
    )  # fmt: skip
    plain = curve(network, recipe, task, partial_epoch=True)
    recorder = request.getfixturevalue("recorder")
    assert curve(network, recipe, task, partial_epoch=True) == plain
    assert recorder.made == recordings
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

    monkeypatch.setattr(graphs, "record", refuse)
    with caplog.at_level(logging.WARNING):
        assert curve(network, recipe, task) == expected
        assert curve(network, recipe, task) == expected
    assert [record.getMessage() for record in caplog.records] == [
        "cannot record CUDA graphs, so training is several times slower: "
        "operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),  # of the driver, as it makes the graph
        RuntimeError("CUDA error: operation failed due to a previous error during capture"),
    ],
)
def test_recording_is_tried_again(
    error: Exception, recorder: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In new memory with new generators; so are earlier graphs of that training, before a replay.

    They would go on to draw from the old generators, which no checkpoint holds.
    """

    def fail(*arguments: Any) -> StandIn:
        recorder(*arguments)
        monkeypatch.setattr(graphs, "record", recorder)
        raise error

    randomness, pool, calls = OwnRandomness(0, CPU), Pool(), list[None]()
    step, validation = Replayed(randomness, CPU, pool), Replayed(randomness, CPU, pool)
    first, made = randomness.augmentation, list[int]()
    for replayed in (step, validation, step):
        replayed.call(lambda: calls.append(None), WARM_UP_CALLS + 2)
        made.append(recorder.made)
        monkeypatch.setattr(graphs, "record", fail if made == [1] else recorder)
    assert len(calls) == recorder.replayed + 2 * WARM_UP_CALLS == 3 * (WARM_UP_CALLS + 2)
    assert made == [1, 3, 4]
    assert randomness.augmentation is not first


def test_what_waits_for_the_device_is_not_recorded(
    recorder: type[StandIn], sync_modes: list[int | str], caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def wait() -> None:
        nonlocal calls
        calls += 1
        if sync_modes[-1] == "warn":
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    replayed_on_cpu().call(wait, 9)
    assert (calls, recorder.made) == (9, 0)
    assert sync_modes == [0, "warn", 0, "warn", 0]
    (warning,) = caplog.messages
    assert "test_graphs.py, line " in warning
    assert warning.endswith(", waits for the device")


def test_what_waits_in_another_thread_is_recorded(
    recorder: type[StandIn], sync_modes: list[int | str], caplog: pytest.LogCaptureFixture
) -> None:
    """As another study's checkpoint does: torch's mode and Python's warnings are the process's."""
    threads = list[threading.Thread]()

    def save() -> None:
        if sync_modes[-1] == "warn" and not threads:
            told = "called a synchronizing CUDA operation"
            threads.append(threading.Thread(target=warnings.warn, args=(told,)))
            threads[0].start()
            threads[0].join()

    replayed_on_cpu().call(save, 9)
    assert len(threads) == recorder.made == 1
    assert caplog.messages == []


@pytest.mark.usefixtures("sync_modes")
@pytest.mark.parametrize(
    "draw",
    [
        random.random,
        lambda: random.gauss(0, 1),  # draws two, and keeps the second
        np.random.rand,
        np.random.randn,
        lambda: torch.rand(()),
        lambda: torch.randn(()),
    ],
)
def test_draws_on_the_cpu_are_not_recorded(
    draw: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every replay would repeat them. They continue as if nobody had tried to record them."""

    def numbers_drawn() -> list[float]:
        random.seed(0)
        np.random.seed(0)
        randomness, drawn = OwnRandomness(0, CPU), []
        with randomness:
            Replayed(randomness, CPU, Pool()).call(lambda: drawn.append(float(draw())), 6)
        return drawn

    monkeypatch.setattr(torch.cuda, "CUDAGraph", RunningGraph)
    drawn = numbers_drawn()
    for _ in range(2):  # the attempts', and once more
        assert drawn.pop(WARM_UP_CALLS) == drawn[WARM_UP_CALLS]
    monkeypatch.setattr(graphs, "can_record", lambda _: False)
    assert drawn == numbers_drawn()
    (warning,) = caplog.messages
    assert "draws random numbers on the CPU" in warning


@pytest.mark.parametrize(
    ("version", "registered"),
    [("2.11.0+cu130", 1), ("2.13.1", 1), ("2.14.0+cu132", 0), ("2.15.0", 0), ("3.0.0", 0)],
)
def test_generators_are_registered_if_torch_needs_it(
    version: str, registered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer versions print a warning each time."""
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RunningGraph)
    monkeypatch.setattr(RunningGraph, "registered", 0)
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    graphs.record(lambda: None, 1, OwnRandomness(0, CPU), Pool())
    assert RunningGraph.registered == registered


def test_packed_is_bit_equal_to_solo_and_its_seconds_add_up(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", time.thread_time)  # other processes take none of it

    def start(number: int) -> Training:
        network, recipe = TRAININGS[number]
        return train(network, recipe, task, seed=number, partial_epoch=True)

    alone, packed = [start(number) for number in range(3)], [start(number) for number in range(3)]
    solo = [list(training) for training in alone]
    began = time.perf_counter()
    together = in_turn(packed)
    spent = time.perf_counter() - began
    assert [list(map(numbers, it)) for it in together] == [list(map(numbers, it)) for it in solo]
    assert [len(curve) for curve in together] == [3, 3, 4]
    for ours, reference in zip(packed, alone, strict=True):
        states = ours.model.state_dict().values(), reference.model.state_dict().values()
        assert all(torch.equal(*pair) for pair in zip(*states, strict=True))
    counted = sum(epoch.seconds for curve in together for epoch in curve)
    assert counted <= spent
    assert counted == pytest.approx(spent, rel=0.3)
