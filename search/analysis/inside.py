"""A look inside the final network: its first kernels, one image on its way through, its mistakes.

N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.folders.composition import measure, read_alike
from search.analysis.wording import printable

if TYPE_CHECKING:
    import torch

    from search.training.bundle import Bundle
    from search.training.task import Task

PAIRS, EACH = 5, 8  # pairs of classes whose mistakes are shown, and examples of each


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureMaps:
    """image_CHW: uint8, what went in; what: the same in words; stages: the output of each,
    (C, H, W), in running order."""

    image_CHW: NDArray[np.uint8]
    what: str
    stages: Mapping[str, NDArray[np.float32]]


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
            raise DataError(
                f"there is no training image {index}; give --image 0 to {len(examples) - 1}, or a "
                "file"
            )
        name = printable(names[int(examples.labels_N[index])])
        return examples.images_NCHW[index].cpu(), f"training image {index}: {name}"
    composition = measure(examples.images_NCHW.cpu().numpy())
    image_CHW, notes = read_alike(
        Path(wanted), task.image_shape, composition, task.info.preparation
    )
    return image_CHW, f"{printable(Path(wanted).name)} ({'; '.join(notes)})"


def look_inside(bundle: Bundle, shown: tuple[torch.Tensor, str]) -> dict[str, Any]:
    """`kernels` and `features` of `FinalResult`, what the network has of them."""
    from search.training.task import stage_maps

    image_CHW, what = shown
    stages = stage_maps(bundle.network(), image_CHW, bundle.mean_C, bundle.std_C)
    if not stages:
        return {"kernels": None}
    features = FeatureMaps(image_CHW=image_CHW.numpy(), what=what, stages=stages)
    weight = bundle.weights.get(f"{next(iter(stages))}.weight")
    # A person's own network may begin with a block, which has none.
    return {
        "kernels": None if weight is None else weight.float().numpy(),
        "features": features,
    }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mistake:
    """A test image taken for another class; the probability is that of the predicted one."""

    image_CHW: NDArray[np.uint8]
    true: int
    predicted: int
    probability: float


def collect_mistakes(
    images_NCHW: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    shares_NK: NDArray[np.float32],
    confusion_KK: NDArray[np.int64],
) -> tuple[tuple[Mistake, ...], ...]:
    """For each of the most confused pairs, its surest mistakes, both ways together.

    Args:
        shares_NK: probabilities by one run.
        confusion_KK: of all runs; decides which pairs these are.
    """
    both_KK = np.triu(confusion_KK + confusion_KK.T, 1)
    order = np.argsort(-both_KK, axis=None, kind="stable")[:PAIRS]
    predicted_N, sure_N = shares_NK.argmax(1), shares_NK.max(1)
    found = []
    for first, second in zip(*np.unravel_index(order, both_KK.shape), strict=True):
        there_N = (labels_N == first) & (predicted_N == second)
        there_N |= (labels_N == second) & (predicted_N == first)
        numbers = np.flatnonzero(there_N)
        mistakes = tuple(
            Mistake(
                image_CHW=images_NCHW[n],
                true=int(labels_N[n]),
                predicted=int(predicted_N[n]),
                probability=float(sure_N[n]),
            )
            for n in numbers[np.argsort(-sure_N[numbers], kind="stable")][:EACH]
        )
        if mistakes and first != second:
            found.append(mistakes)
    return tuple(found)
