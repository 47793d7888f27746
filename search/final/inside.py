"""The image whose feature maps are drawn, and what the network makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from data.errors import DataError
from data.folders.composition import measure, read_alike
from search.analysis.final_result import FeatureMaps
from search.analysis.wording import printable
from search.training.bundle import Bundle
from search.training.task import Task, stage_maps


def choose_image(wanted: str | None, task: Task) -> tuple[torch.Tensor, str]:
    """(image_CHW, the same in words), whose feature maps are drawn; image_CHW is uint8.

    It is the first training image of class 0 if none is named.

    Args:
        wanted: a training image's index, from 0, or a picture's path.

    Raises:
        DataError: neither an index of a training image nor a picture.
    """
    examples, names = task.training, task.info.class_names
    if wanted is None or (wanted.isascii() and wanted.isdigit()):
        index = int((examples.labels_N == 0).nonzero()[0]) if wanted is None else int(wanted[:18])
        if index >= len(examples):
            last = len(examples) - 1
            raise DataError(f"no training image {index}; give --image 0 to {last}, or a file")
        name = printable(names[int(examples.labels_N[index])])
        return examples.images_NCHW[index].cpu(), f"training image {index}: {name}"
    composition = measure(examples.images_NCHW.cpu().numpy())
    image_CHW, notes = read_alike(
        Path(wanted), task.image_shape, composition, task.info.preparation
    )
    return image_CHW, f"{printable(Path(wanted).name)} ({'; '.join(notes)})"


def look_inside(bundle: Bundle, shown: tuple[torch.Tensor, str]) -> dict[str, Any]:
    """`kernels` and `features` of `FinalResult`, what the network has of them."""
    image_CHW, what = shown
    stages = stage_maps(bundle.network(), image_CHW, bundle.mean_C, bundle.std_C)
    if not stages:
        return {"kernels": None}
    features = FeatureMaps(image_CHW=image_CHW.numpy(), what=what, stages=stages)
    weight = bundle.weights.get(f"{next(iter(stages))}.weight")
    # A person's own network may begin with a block, which has none.
    return {"kernels": None if weight is None else weight.float().numpy(), "features": features}
