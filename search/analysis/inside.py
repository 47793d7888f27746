"""A look inside the final network: its first kernels, one image on its way through, its mistakes.

N images, C channels, H x W pixels, K classes, O kernels of shape (C, height, width).
"""

from __future__ import annotations

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
    from search.training.task import StageMaps, Task

MOST_EXAMINED = 1000  # training images on which it is decided which units are dead
DEAD = 0.01  # of the layer's median range of outputs
UNIFORM = 0.2  # of the layer's median norm
TWIN = 0.95  # absolute cosine
PAIRS, EACH = 5, 8  # pairs of classes whose mistakes are shown, and examples of each


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureMaps:
    """image_CHW: uint8, what went in; what: the same in words; stages: in running order."""

    image_CHW: NDArray[np.uint8]
    what: str
    stages: tuple[StageMaps, ...]


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


def look_inside(bundle: Bundle, task: Task, shown: tuple[torch.Tensor, str]) -> dict[str, Any]:
    """`kernels`, `kernel_report` and `features` of `FinalResult`, what the network has of them."""
    from search.training.task import first_stage_ranges, stage_maps

    model = bundle.network()
    mean_C, std_C = bundle.mean_C, bundle.std_C
    image_CHW, what = shown
    stages = tuple(stage_maps(model, image_CHW, mean_C, std_C))
    if not stages:
        return {"kernels": None}
    features = FeatureMaps(image_CHW=image_CHW.numpy(), what=what, stages=stages)
    weight = bundle.weights.get(f"{stages[0].name}.weight")
    if weight is None:  # a person's own network may begin with a block
        return {"kernels": None, "features": features}
    kernels = weight.float().numpy()
    examined_NCHW = task.training.images_NCHW[:MOST_EXAMINED].cpu()
    ranges_O = first_stage_ranges(model, examined_NCHW, mean_C, std_C)
    report = inspect_kernels(kernels, ranges_O, len(examined_NCHW))
    return {"kernels": kernels, "kernel_report": report, "features": features}


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelReport:
    """Kernels of the first layer by number, from 0, that do nothing, little, or the same.

    Attributes:
        dead: whose outputs hardly vary over the images.
        uniform: whose weights hardly differ from each other within an input channel.
        twins: (later, earlier, cosine) of pairs that are nearly the same or each other's negative,
            each later one with the earlier one that is most alike. Dead and uniform kernels, whose
            direction means little, are left out.
        images: training images that `dead` was decided on.
    """

    dead: tuple[int, ...]
    uniform: tuple[int, ...]
    twins: tuple[tuple[int, int, float], ...]
    images: int

    def in_words(self) -> str:
        """What was found, and the rules."""
        twins = [f"{a} of {b} ({cosine:.2f})" for a, b, cosine in self.twins]
        dead, uniform, alike = (
            ", ".join(map(str, found)) or "none" for found in (self.dead, self.uniform, twins)
        )
        return (
            f"Counted from 0. Dead: {dead}, near-uniform: {uniform}, near-duplicates: {alike}. "
            f"Dead: over {self.images} training images the unit's output varies by less than "
            f"{100 * DEAD:g} % of the layer's median. Near-uniform: the norm of the weights less "
            f"their mean (of each input channel) is below {UNIFORM:g} of the layer's median norm. "
            f"Near-duplicate: |cosine| with an earlier kernel above {TWIN:g}, the dead and the "
            "uniform left out."
        )


def inspect_kernels(
    kernels: NDArray[np.float32], ranges_O: NDArray[np.float32], images: int
) -> KernelReport:
    """Apply the rules.

    Args:
        kernels: (O, C, height, width). Of 1 x 1 none is called uniform.
        ranges_O: highest minus lowest output of each unit over the images.
    """
    flat = kernels.reshape(len(kernels), -1).astype(np.float64)
    varying = (kernels - kernels.mean(axis=(2, 3), keepdims=True)).reshape(flat.shape)
    norms_O = np.linalg.norm(flat, axis=1)
    dead_O = ranges_O <= DEAD * np.median(ranges_O)
    uniform_O = np.linalg.norm(varying, axis=1) < UNIFORM * np.median(norms_O)
    uniform_O &= kernels.shape[2:] != (1, 1)
    plain_O = dead_O | uniform_O | (norms_O == 0)
    directions = flat / np.maximum(norms_O, np.finfo(np.float64).tiny)[:, None]
    cosines_OO = np.where(plain_O | plain_O[:, None], 0.0, directions @ directions.T)
    twins = []
    for later in range(1, len(kernels)):
        earlier = int(np.abs(cosines_OO[later, :later]).argmax())
        if abs(cosines_OO[later, earlier]) > TWIN:
            twins.append((later, earlier, float(cosines_OO[later, earlier])))
    return KernelReport(
        dead=tuple(map(int, np.flatnonzero(dead_O))),
        uniform=tuple(map(int, np.flatnonzero(uniform_O))),
        twins=tuple(twins),
        images=images,
    )


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
