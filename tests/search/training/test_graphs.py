"""Graphs on a machine without CUDA: a stand-in that does what CUDA's would, when it would."""

import gc
import io
import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch

from models import ConvNetConfig
from search.spec.recipe import Recipe
from search.training import graphs
from search.training import train as train_module
from search.training.epoch import Epoch, StoppedError
from search.training.graphs import UNROLLED, WARM_UP_CALLS, OwnRandomness, Replayed
from search.training.task import Task
from search.training.train import train

RECIPE = Recipe(epochs=4, batch_size=8, learning_rate=3e-3, augmentation="flip-crop-erase")
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
    monkeypatch.setattr(graphs, "graph_pool", lambda _: None)
    monkeypatch.setattr(train_module, "graph_pool", lambda _: None)
    monkeypatch.setattr(graphs, "record", record)
    monkeypatch.setattr(train_module, "SLICE_STEPS", {"cpu": 11})
    return StandIn


def figures(epoch: Epoch) -> dict[str, float]:
    return {key: value for key, value in asdict(epoch).items() if key != "seconds"}


def curve(network: ConvNetConfig, recipe: Recipe, task: Task, **options: object) -> list[dict]:
    return [figures(epoch) for epoch in train(network, recipe, task, **options)]


def test_a_graph_is_made_once_and_stands_for_many_calls(recorder: type[StandIn]) -> None:
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


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_recorded_training_is_the_plain_one(
    network: ConvNetConfig,
    task: Task,
    request: pytest.FixtureRequest,
    optimizer: str,
) -> None:
    recipe = replace(
        RECIPE,
        optimizer=optimizer,
        gradient_clip=1.0,
        label_smoothing=0.1,
        weight_averaging=0.2,
        weight_decay_kind="decoupled",
        weight_decay=1e-2,
    )
    plain = curve(network, recipe, task, seed=3, early_look=True)
    recorder = request.getfixturevalue("recorder")
    assert curve(network, recipe, task, seed=3, early_look=True) == plain
    assert recorder.made == 3  # steps one by one and unrolled, and the validation


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize("stop_after", [1, 3])
def test_resuming_is_bit_equal(network: ConvNetConfig, task: Task, stop_after: int) -> None:
    whole = curve(network, RECIPE, task, seed=3)
    training = train(network, RECIPE, task, seed=3)
    first = [figures(next(training)) for _ in range(stop_after)]
    file = io.BytesIO()
    torch.save(training.state(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert first + curve(network, RECIPE, task, seed=3, state=state) == whole


def test_what_cannot_be_recorded_runs_plainly_with_one_warning(
    network: ConvNetConfig,
    task: Task,
    recorder: type[StandIn],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = curve(network, RECIPE, task, seed=3)

    def refuse(function: Callable[[], None], calls: int, *_: object) -> StandIn:
        if calls > 1 or recorder.made:
            raise RuntimeError("operation not permitted when stream is capturing\nand so on")
        recorder.made += 1
        return StandIn(function, calls)

    graphs._warn_once.cache_clear()
    recorder.made = 0
    monkeypatch.setattr(graphs, "record", refuse)
    with caplog.at_level(logging.WARNING):
        assert curve(network, RECIPE, task, seed=3) == expected
        assert curve(network, RECIPE, task, seed=3) == expected
    assert [record.getMessage() for record in caplog.records] == [
        "cannot record CUDA graphs, so training is several times slower: "
        "operation not permitted when stream is capturing"
    ]


@pytest.mark.usefixtures("recorder")
def test_stop_is_heard_between_two_slices(network: ConvNetConfig, task: Task) -> None:
    stop = threading.Event()
    training = train(network, RECIPE, task, seed=3, stop=stop)
    portions = training.slices()
    assert next(portions) is None
    stop.set()
    with pytest.raises(StoppedError):
        next(portions)


@pytest.mark.usefixtures("recorder")
def test_no_more_slices_are_enqueued_than_are_waited_for(
    network: ConvNetConfig, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = most = 0

    def mark(_: torch.device) -> Callable[[], None]:
        nonlocal ahead, most
        ahead += 1
        most = max(most, ahead)
        done = False

        def wait() -> None:
            nonlocal ahead, done
            ahead -= not done
            done = True

        return wait

    monkeypatch.setattr(train_module, "mark", mark)
    monkeypatch.setattr(train_module, "SLICE_STEPS", {"cpu": 3})
    next(train(network, RECIPE, task, seed=3))
    assert most == train_module.SLICES_AHEAD + 1  # and the figures to be reported


def test_a_training_that_was_closed_is_freed_at_once(network: ConvNetConfig, task: Task) -> None:
    """Not by the garbage collector, some time: it may hold gigabytes of a GPU."""
    training = train(network, RECIPE, task, seed=3)
    portions = training.slices()
    for _ in range(5):
        next(portions)
    freed = weakref.ref(training), weakref.ref(training.model)
    gc.disable()
    try:
        training.close()
        del training, portions
        assert [reference() for reference in freed] == [None, None]
    finally:
        gc.enable()


def test_new_generators_draw_on_as_the_old_ones_would() -> None:
    ours, other = OwnRandomness(5, CPU), OwnRandomness(5, CPU)
    for randomness in (ours, other):
        torch.rand(3, generator=randomness.augmentation)
    with ours:
        ours.renew()
    drawn = [torch.rand(9, generator=randomness.augmentation) for randomness in (ours, other)]
    assert torch.equal(*drawn)
