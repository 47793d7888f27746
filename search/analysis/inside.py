"""A look inside the final network: its first kernels, and one image on its way through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from data.errors import DataError
from data.folders.composition import measure
from data.folders.recompose import read_alike
from search.analysis.feature_maps import FeatureMaps
from search.analysis.kernels import inspect_kernels
from search.analysis.wording import printable
from search.training.bundle import Bundle
from search.training.task import Task, first_stage_ranges, stage_maps

MOST_EXAMINED = 1000  # training images on which it is decided which units are dead


class ShownImage(NamedTuple):
    """image_CHW: uint8, in main memory; what: the same in words."""

    image_CHW: torch.Tensor
    what: str


def choose_image(wanted: str | None, task: Task) -> ShownImage:
    """The image whose feature maps are drawn: the first training image of class 0 if none is named.

    Args:
        wanted: a training image's index, from 0, or a picture's path.

    Raises:
        DataError: neither an index of a training image nor a picture.
    """
    examples, names = task.training, task.info.class_names
    if wanted is None or (wanted.isascii() and wanted.isdigit()):
        index = int((examples.labels_N == 0).nonzero()[0]) if wanted is None else int(wanted[:18])
        if index >= len(examples):
            raise DataError(
                f"there is no training image {index}; give --image 0 to {len(examples) - 1}, or a "
                "file"
            )
        name = printable(names[int(examples.labels_N[index])])
        return ShownImage(examples.images_NCHW[index].cpu(), f"training image {index}: {name}")
    composition = measure(examples.images_NCHW.cpu().numpy())
    image_CHW, notes = read_alike(Path(wanted), task.image_shape, composition)
    return ShownImage(image_CHW, f"{printable(Path(wanted).name)} ({'; '.join(notes)})")


def look_inside(bundle: Bundle, task: Task, shown: ShownImage) -> dict[str, Any]:
    """`kernels`, `kernel_report` and `features` of `FinalResult`, what the network has of them."""
    model = bundle.network()
    mean_C, std_C = bundle.mean_C, bundle.std_C
    inside: dict[str, Any] = {"kernels": None}
    stages = tuple(stage_maps(model, shown.image_CHW, mean_C, std_C))
    if stages:
        inside["features"] = FeatureMaps(
            image_CHW=shown.image_CHW.numpy(), what=shown.what, stages=stages
        )
        weights = bundle.weights[f"{stages[0].name}.weight"]  # a shortcut never goes around it
        examined_NCHW = task.training.images_NCHW[:MOST_EXAMINED].cpu()
        ranges_O = first_stage_ranges(model, examined_NCHW, mean_C, std_C)
        inside["kernels"] = weights.float().numpy()
        inside["kernel_report"] = inspect_kernels(inside["kernels"], ranges_O, len(examined_NCHW))
    return inside
