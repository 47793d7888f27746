"""What only a GPU can show. To run all tests of this kind: `pytest -m gpu`.

Tolerances: losses are in bfloat16 and atomic additions sum them in no fixed order, so that two runs
of the very same steps also differ in the last bits, and training amplifies that.
"""

import gc
import io
import logging
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from models import FAMILIES, Architecture, ConvNetConfig, MLPConfig, build, family_from_function
from search.spec.recipe import Recipe
from search.training import graphs
from search.training.epoch import Epoch
from search.training.graphs import OwnRandomness
from search.training.task import Task
from search.training.train import Training, train
from tests.search.blobs import blob_task, in_turn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]

NETWORK = ConvNetConfig(
    channels=(16, 32), batch_norm=True, hidden=(32,), dropout_conv=0.1, dropout_linear=0.2
)
RECIPE = Recipe(
    epochs=4,
    batch_size=64,
    learning_rate=3e-3,
    weight_decay_kind="decoupled",
    weight_decay=1e-2,
    augmentation="flip-crop-erase",
)
CASES: list[tuple[Architecture, Recipe]] = [
    (NETWORK, RECIPE),
    (NETWORK, replace(RECIPE, optimizer="sgd", gradient_clip=1.0, label_smoothing=0.1)),
    (
        ConvNetConfig(channels=(8, 16, 16), residual=True, head="global", pool="average"),
        replace(RECIPE, augmentation="rotate-jitter-erase", weight_decay_kind="l2"),
    ),
    (
        ConvNetConfig(channels=(8,), activation="gelu"),
        replace(RECIPE, augmentation="zoom-translate-flip", optimizer="sgd", momentum=0.0),
    ),
    (
        MLPConfig(hidden=(64, 32), batch_norm=True, dropout=0.3),
        replace(RECIPE, batch_size=50, weight_averaging=0.2),
    ),
    (NETWORK, replace(RECIPE, initial_weights="initial.pth", frozen_epochs=2)),
]


@pytest.fixture(scope="module")
def task() -> Task:
    return blob_task(4000, 2300, side=28, device="cuda:0")


@pytest.fixture(scope="module", autouse=True)
def initial_weights(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """They are in the current directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("weights"))
        torch.save(build(NETWORK, task.image_shape, task.classes).state_dict(), "initial.pth")
        yield


@pytest.fixture(autouse=True)
def no_fallback(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every recordable step must be recorded: the fall-back would pass most of these tests."""
    graphs._warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        yield
    warnings = [
        r.getMessage() for r in caplog.get_records("call") if "CUDA graphs" in r.getMessage()
    ]
    assert not warnings or "provoked" in warnings[0]


def check_close(ours: list[Epoch], reference: list[Epoch], tolerance: float = 0.03) -> None:
    assert [epoch.epoch for epoch in ours] == [epoch.epoch for epoch in reference]
    for one, other in zip(ours, reference, strict=True):
        assert one.learning_rate == other.learning_rate
        assert one.images == other.images
        assert one.train_loss == pytest.approx(other.train_loss, rel=tolerance, abs=tolerance)
        assert one.train_error == pytest.approx(other.train_error, abs=tolerance)
        assert one.validation_error == pytest.approx(other.validation_error, abs=2 * tolerance)


def start(number: int, task: Task, **options: object) -> Training:
    network, recipe = CASES[number]
    return train(network, recipe, task, seed=number, **options)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_graph_against_eager(number: int, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets advance by what the graph's kernels draw, so augmentation and dropout stay equal."""
    recorded = start(number, task, partial_epoch=True)
    ours = list(recorded)
    assert set(recorded._step._replayed._graphs) == {1, graphs.UNROLLED}
    with monkeypatch.context() as patch:
        patch.setattr(graphs, "can_record", lambda _: False)
        eager = start(number, task, partial_epoch=True)
        check_close(ours, list(eager))
    check_same_randomness(recorded, eager)


def check_same_randomness(training: Training, other: Training) -> None:
    ours, reference = training.state()["randomness"], other.state()["randomness"]
    for key in ("order", "augmentation"):
        assert torch.equal(ours[key], reference[key])
    assert all(torch.equal(a, b) for a, b in zip(ours["global"], reference["global"], strict=True))


@pytest.mark.parametrize("stop_after", [1, 3])
def test_resuming(task: Task, stop_after: int) -> None:
    """The curves are close, and the order of the examples is exactly the same."""
    uninterrupted = start(0, task)
    whole = list(uninterrupted)
    training = start(0, task)
    first = [next(training) for _ in range(stop_after)]
    file = io.BytesIO()
    torch.save(training.state(), file)
    training.close()
    del training
    file.seek(0)
    state = torch.load(file, weights_only=True, map_location="cpu")
    resumed = start(0, task, state=state)
    check_close(first + list(resumed), whole)
    check_same_randomness(resumed, uninterrupted)


@pytest.mark.parametrize("devices", [("cuda:0", "cpu"), ("cpu", "cuda:0")])
def test_another_kind_of_device_resumes(task: Task, devices: tuple[str, str]) -> None:
    began_on, goes_on_on = (task.to(torch.device(name)) for name in devices)
    training = start(0, began_on)
    first = next(training)
    second = next(start(0, goes_on_on, state=training.state()))
    assert second.epoch == 2
    assert second.train_loss < first.train_loss


def test_packed_against_solo(task: Task) -> None:
    """All at once, each on its own stream; each draws exactly what it draws alone."""
    alone = [start(number, task, partial_epoch=True) for number in range(len(CASES))]
    solo = [list(training) for training in alone]
    together = [start(number, task, partial_epoch=True) for number in range(len(CASES))]
    assert len({training._on_stream.args[0].cuda_stream for training in together}) == len(CASES)
    packed = in_turn(together)
    for ours, reference in zip(packed, solo, strict=True):
        check_close(ours, reference)
    for ours, reference in zip(together, alone, strict=True):
        check_same_randomness(ours, reference)


def test_out_of_memory_leaves_the_others_alone(task: Task) -> None:
    reference = list(start(0, task))
    survivor = start(0, task)
    portions = survivor.slices()
    for _ in range(3):
        next(portions)
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(0, free - 300 * 2**20), dtype=torch.uint8, device="cuda")
    torch.cuda.empty_cache()
    big = ConvNetConfig(channels=(512, 512), hidden=())
    with pytest.raises(torch.OutOfMemoryError):
        list(train(big, replace(RECIPE, batch_size=2000), task, seed=1).slices())
    gc.collect()
    curve = [epoch for epoch in portions if epoch is not None]
    del hog
    check_close(curve, reference)


def test_memory_of_an_ended_training_is_given_back(task: Task) -> None:
    def run() -> None:
        training = start(0, task)
        next(training)
        training.close()

    run()
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    gc.disable()
    try:
        for _ in range(5):
            run()
    finally:
        gc.enable()
    assert torch.cuda.memory_allocated() <= held + 2**20


def test_steps_that_cannot_be_recorded_fall_back(
    task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The recording really fails, in the middle of a step; then training continues eagerly."""
    reference = list(start(0, task))
    original = graphs.record

    def sabotaged(
        function: Callable[[], None], calls: int, randomness: OwnRandomness, pool: object
    ) -> torch.cuda.CUDAGraph:
        def fail() -> None:
            function()
            raise RuntimeError("provoked")

        return original(fail, calls, randomness, pool)

    monkeypatch.setattr(graphs, "record", sabotaged)
    check_close(list(start(0, task)), reference)
    assert sum("provoked" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("decide", "reason"),
    [
        (lambda x: x.mean().item() > 0, "waits for the device"),
        (lambda _: random.random() < 0.5, "draws random numbers on the CPU"),
        (lambda _: torch.rand(()) < 0.5, "draws random numbers on the CPU"),
    ],
)
def test_own_networks_that_cannot_be_recorded(
    task: Task,
    decide: Callable[[torch.Tensor], bool],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are trained eagerly, and torch still gives memory back."""

    class Own(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            factor = 2 if x.is_cuda and decide(x) else 1  # before, it is checked without values
            return factor * super().forward(x)

    def own(image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Own(nn.Flatten(), nn.Linear(math.prod(image_shape), classes))

    def run() -> list[Epoch]:
        random.seed(0)
        return list(train(FAMILIES["own"].configured({}), RECIPE, task, seed=0))

    monkeypatch.setitem(FAMILIES, "own", family_from_function("own", own))
    curve = run()
    (warning,) = caplog.messages
    assert warning.endswith(reason)
    caplog.clear()
    torch.empty(2**28, dtype=torch.uint8, device="cuda")  # kept in torch's cache
    held = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() <= held - 2**28
    monkeypatch.setattr(graphs, "can_record", lambda _: False)
    check_close(curve, run())


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("records", [True, False])
def test_no_waiting_within_an_epoch(
    task: Task, records: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch raises at any operation that would wait for the device, except at the epoch's ends."""
    monkeypatch.setattr(graphs, "can_record", lambda _: records)
    for number in [0] if records else range(len(CASES)):
        training = start(number, task)
        next(training)
        next(training)
        with training._on_stream(), training._randomness:
            training._step.begin_epoch(2)
            torch.cuda.synchronize()
            try:
                torch.cuda.set_sync_debug_mode("error")
                training._step.run(training._step.steps)
                if records:
                    training._validate_all()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize()
