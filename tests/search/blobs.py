from collections.abc import Callable
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

import pytest
import torch

from data.examples import Examples
from data.folders.composition import Composition
from models import Architecture, ConvNetConfig, build
from search.spec.recipe import Recipe
from search.training.bundle import Bundle
from search.training.epoch import Epoch
from search.training.repeat import Job, TrainedRun, train_slices
from search.training.task import Task, make_task
from search.training.train import Training
from tests.made_up_data import made_up_info

CLASSES = 4


def blobs(count: int, seed: int, side: int = 8) -> Examples:
    """Noise images (count, 1, side, side); which quarter is bright tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    images = torch.randint(0, 120, (count, 1, side, side), generator=generator)
    half = side // 2
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = divmod(label, 2)
        image[:, half * row : half * (row + 1), half * column : half * (column + 1)] += 100
    return Examples(images_NCHW=images.to(torch.uint8), labels_N=labels)


def blob_task(training: int, validation: int, side: int = 8, device: str = "cpu") -> Task:
    info = made_up_info(
        "blobs",
        "abcd",
        image_shape=(1, side, side),
        validation_count=validation,
        training_count=training + validation,
    )
    examples = blobs(training, 0, side), blobs(validation, 1, side)
    return make_task(info, *examples, torch.device(device))


def numbers(epoch: Epoch) -> dict[str, Any]:
    """What must be equal between two runs: everything but the time it took."""
    return {**asdict(epoch), "seconds": None}


def curve(
    network: Architecture, recipe: Recipe, task: Task, *, seed: int = 3, **options: Any
) -> list[dict[str, Any]]:
    return [numbers(epoch) for epoch in Training(network, recipe, task, seed=seed, **options)]


def in_turn(trainings: list[Training]) -> list[list[Epoch]]:
    """The epochs of each training, all advanced in turn."""
    device = next(trainings[0].model.parameters()).device
    curves: list[list[Epoch]] = [[] for _ in trainings]
    for portions in zip_longest(*(training.slices() for training in trainings)):
        torch.rand(1, device=device)  # others draw from the global generators as well
        for curve, epoch in zip(curves, portions, strict=True):
            if epoch is not None:
                curve.append(epoch)
    return curves


def train_job(
    job: Job, task: Task, *, on_epoch: Callable[[Epoch], object] = lambda _: None, **options: Any
) -> TrainedRun:
    """A run of finalize, trained to its end."""
    slices = train_slices(job, task, **options)
    while True:
        try:
            if (epoch := next(slices)) is not None:
                on_epoch(epoch)
        except StopIteration as ended:
            run: TrainedRun = ended.value
            return run


@pytest.fixture
def task() -> Task:
    return blob_task(200, 64)


@pytest.fixture
def network() -> ConvNetConfig:
    return ConvNetConfig(
        channels=(8, 8), batch_norm=True, hidden=(16,), dropout_linear=0.2, dropout_conv=0.1
    )


@pytest.fixture
def bundle() -> Bundle:
    """An untrained network for 28 x 28 grey images composed like MNIST's; four odd class names."""
    architecture = ConvNetConfig(channels=(4, 6), batch_norm=True, hidden=(16,))
    torch.manual_seed(0)
    network = build(architecture, (1, 28, 28), 4)
    return Bundle(
        study="blobs",
        trial=3,
        seed=0,
        epochs=2,
        dataset="blobs",
        title="Blobs",
        class_names=("a", "b", "<c>", "d\x1b[31m"),
        image_shape=(1, 28, 28),
        mean_C=torch.tensor([0.13]),
        std_C=torch.tensor([0.31]),
        composition=Composition(on_dark=True, ground=0, level=1, size=20 / 28),
        architecture=architecture,
        recipe={"epochs": 2},
        temperature=1.5,
        weights=network.state_dict(),
    )
