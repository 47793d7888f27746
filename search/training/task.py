"""What is learned: training and validation examples, resident on one device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from data.datasets import load_training
from data.errors import DataError
from data.examples import DatasetInfo, Examples, normalisation, split, thinned
from data.fingerprint import Fingerprint, fingerprint
from data.folders.preparation import Reading
from search.spec.recipe import EARLY_LOOK

_READING = Reading()


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Examples and the facts that a network and a recipe need about them.

    Attributes:
        training, validation: uint8 images (N, C, H, W) and labels (N,), on one device.
        early_validation: of those for validation what the early look is scored on.
        mean_C, std_C: of the training images, in [0, 1] units; shape (C,).
        info: names, image shape and classes of the data set.
        content: fingerprint of all of the data set; None where the examples were made by hand.
    """

    training: Examples
    validation: Examples
    mean_C: torch.Tensor
    std_C: torch.Tensor
    info: DatasetInfo
    content: Fingerprint | None = None
    early_validation: Examples = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "early_validation", thinned(self.validation, EARLY_LOOK))

    @property
    def device(self) -> torch.device:
        return self.training.images_NCHW.device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.info.image_shape

    @property
    def classes(self) -> int:
        return len(self.info.class_names)


def load_task(
    dataset: str,
    data_dir: Path,
    device: torch.device,
    *,
    seed: int,
    reading: Reading = _READING,
    validation_count: int | None = None,
    limit: int | None = None,
) -> Task:
    """Read a data set's training images and hold a stratified part of them out for validation.

    Args:
        seed: decides which images are held out, where the data set has none for validation.
        reading: what the study has fixed of the data set.
        validation_count: how many; None for the data set's usual number.
        limit: keep so many of the rest; None for all.

    Raises:
        DataError: the data cannot be had or divided so.
    """
    info, examples = load_training(dataset, data_dir, reading=reading)
    if info.has_own_validation and validation_count not in (None, info.validation_count):
        raise DataError(
            f"{info.title} has {info.validation_count} validation images of its own, but got "
            f"validation_count = {validation_count}; leave it out"
        )
    training, validation = split(
        examples,
        validation_count=info.validation_count if validation_count is None else validation_count,
        seed=seed,
        limit=limit,
        drawn=not info.has_own_validation,
    )
    return make_task(info, training, validation, device, fingerprint(info, examples))


def load_full_task(
    dataset: str, data_dir: Path, device: torch.device, *, reading: Reading = _READING
) -> Task:
    """All training images to train on, and none for validation: for the final training."""
    info, examples = load_training(dataset, data_dir, reading=reading)
    none = examples.select(torch.arange(0))
    return make_task(info, examples, none, device, fingerprint(info, examples))


def make_task(
    info: DatasetInfo,
    training: Examples,
    validation: Examples,
    device: torch.device,
    content: Fingerprint | None = None,
) -> Task:
    """Put the examples on the device, once, as bytes: a quarter of the memory and the traffic.

    Mean and spread are taken from the training part alone.
    """
    mean_C, std_C = normalisation(training)
    return Task(
        training=training.to(device),
        validation=validation.to(device),
        mean_C=mean_C.to(device),
        std_C=std_C.to(device),
        info=info,
        content=content,
    )
