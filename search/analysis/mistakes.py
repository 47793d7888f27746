"""Test images that the network took for another class: the surest mistakes of the commonest pairs.

N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from search.analysis.pixels import as_rgb
from search.analysis.wording import fitted, percent

PAIRS, EACH = 5, 8  # pairs of classes, and examples of each


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Mistake:
    """One test image; true and predicted class, and the probability of the latter."""

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
    predicted_N = shares_NK.argmax(1)
    found = []
    for first, second in zip(*np.unravel_index(order, both_KK.shape), strict=True):
        there = ((labels_N == first) & (predicted_N == second)) | (
            (labels_N == second) & (predicted_N == first)
        )
        numbers = np.flatnonzero(there)
        surest = numbers[np.argsort(-shares_NK[numbers].max(1), kind="stable")][:EACH]
        mistakes = tuple(
            Mistake(
                image_CHW=images_NCHW[n],
                true=int(labels_N[n]),
                predicted=int(predicted_N[n]),
                probability=float(shares_NK[n].max()),
            )
            for n in surest
        )
        if both_KK[first, second] and mistakes:
            found.append(mistakes)
    return tuple(found)


def draw_mistakes(
    pairs: Sequence[Sequence[Mistake]], class_names: Sequence[str], title: str
) -> Figure:
    """A row for each pair."""
    picture = Figure(figsize=(1.15 * EACH, 1.6 * len(pairs) + 0.4), layout="constrained")
    picture.suptitle(title, fontsize=9)
    grid = picture.subplots(len(pairs), EACH, squeeze=False)
    for row, mistakes in zip(grid, pairs, strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, mistake in zip(row, mistakes, strict=False):
            axes.imshow(as_rgb(mistake.image_CHW), interpolation="nearest")
            axes.set_title(
                f"{fitted(class_names[mistake.true], 14)}\n"
                f"→ {fitted(class_names[mistake.predicted], 14)}\n"
                f"{percent(mistake.probability, 0)}",
                fontsize=6.5,
            )
    return picture
