"""What is learned: training and validation examples, resident on one device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from data.datasets import DatasetInfo, Examples, normalisation


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Examples and the facts that a network and a recipe need about them.

    Attributes:
        training, validation: uint8 images (N, C, H, W) and labels (N,), on one device.
        mean_C, std_C: of the training images, in [0, 1] units; shape (C,).
        info: names, image shape and classes of the data set.
    """

    training: Examples
    validation: Examples
    mean_C: torch.Tensor
    std_C: torch.Tensor
    info: DatasetInfo

    @property
    def device(self) -> torch.device:
        return self.training.images_NCHW.device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.info.image_shape

    @property
    def classes(self) -> int:
        return len(self.info.class_names)


def make_task(
    info: DatasetInfo, training: Examples, validation: Examples, device: torch.device
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
    )
