"""What all contenders of a benchmark train: networks, recipe, images, or a whole study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import ConvNetConfig
from search.spec.config import StudySpec
from search.spec.recipe import Recipe
from search.spec.study_file import find_study_file, read_study_file
from search.training.task import Task, load_study_task

SEED = 0  # of the split

NETWORKS: Mapping[str, ConvNetConfig] = {
    # Two 3x3 convolutions without padding: 221 950 parameters on 28x28 grey images.
    "small": ConvNetConfig(channels=(32, 64), padding=0, hidden=(120, 84)),
    # The middle of the default space.
    "typical": ConvNetConfig(
        channels=(24, 48, 96), batch_norm=True, hidden=(128,), dropout_linear=0.2
    ),
}
AUGMENTATION = "flip-crop-erase"


def default_study(**changes: Any) -> StudySpec:
    """The default study without its baseline."""
    fields = read_study_file(find_study_file("default"))
    return StudySpec(**{**fields, "baseline": None, **changes})


def recipe(*, augmented: bool) -> Recipe:
    """The default study's batch size, optimiser, schedule and weight averaging; never ends."""
    return Recipe(
        epochs=1000,
        batch_size=128,
        learning_rate=2e-3,
        weight_decay_kind="decoupled",
        weight_decay=1e-2,
        weight_averaging=0.15,
        augmentation=AUGMENTATION if augmented else "none",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """What to train, the same for all contenders.

    Attributes:
        network: a key of `NETWORKS`.
        limit: training images; None: all.
    """

    network: str
    augmented: bool
    device: str
    dataset: str
    data_dir: Path
    limit: int | None

    @classmethod
    def of(
        cls, args: Any, device: torch.device, network: str, *, augmented: bool = True
    ) -> Workload:
        """The workload with the images given by a command's arguments."""
        images = {name: getattr(args, name) for name in ("dataset", "data_dir", "limit")}
        return cls(network=network, augmented=augmented, device=str(device), **images)

    def task(self, device: torch.device) -> Task:
        """The images, on that device.

        Raises:
            DataError: the data are not available.
        """
        spec = StudySpec(dataset=self.dataset, seed=SEED, limit=self.limit)
        return load_study_task(spec, self.data_dir, device)


def without_validation(task: Task) -> Task:
    """The task with nothing to validate on, so that an epoch is only training."""
    nothing = torch.arange(0, device=task.device)
    return dataclasses.replace(task, validation=task.validation.select(nothing))


def few_batches(task: Task, batches: int, batch_size: int) -> Task:
    """The task with only a few batches for training, enough to run every kernel once."""
    chosen = torch.arange(min(batches * batch_size, len(task.training)), device=task.device)
    return dataclasses.replace(task, training=task.training.select(chosen))
