"""Images drawn side by side: the surest mistakes, and feature maps on their way."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from search.analysis.inside import EACH, FeatureMaps, Mistake
from search.analysis.wording import fitted, percent

MOST_MAPS, MOST_STAGES = 32, 20
COLUMNS = 16  # maps a row


def as_rgb(image_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (1 or 3, H, W) as (H, W, 3), as matplotlib draws it."""
    rgb_CHW = np.repeat(image_CHW, 3, axis=0) if len(image_CHW) == 1 else image_CHW
    return np.ascontiguousarray(rgb_CHW.transpose(1, 2, 0))


def draw_mistakes(
    pairs: Sequence[Sequence[Mistake]], class_names: Sequence[str], title: str
) -> Figure:
    """A row for each pair of classes."""
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


def draw_feature_maps(features: FeatureMaps, title: str) -> Figure:
    """The image, then for each stage its first maps; white is the highest value of the stage."""
    shown = features.stages[:MOST_STAGES]
    heights = [1.3, *(0.62 * _rows(stage.maps_CHW) + 0.3 for stage in shown)]
    picture = Figure(figsize=(10, sum(heights) + 0.4), layout="constrained")
    picture.suptitle(title, fontsize=9)
    first, *others = picture.subplots(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
    first.set_axis_off()
    first.imshow(as_rgb(features.image_CHW), interpolation="nearest")
    first.set_title(features.what, fontsize=8, loc="left")
    for axes, stage in zip(others, shown, strict=True):
        axes.set_axis_off()
        axes.imshow(tile(stage.maps_CHW[:MOST_MAPS]), cmap="gray", interpolation="nearest")
        count, height, width = stage.maps_CHW.shape
        few = "" if count <= MOST_MAPS else f"; the first {MOST_MAPS} are shown"
        axes.set_title(
            f"{stage.name}: {count} maps of {height}×{width}{few}", fontsize=8, loc="left"
        )
    return picture


def tile(maps_CHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps in reading order, `COLUMNS` a row, a pixel of NaN between them."""
    _, height, width = maps_CHW.shape
    rows = _rows(maps_CHW)
    grid = np.full((rows * (height + 1) - 1, COLUMNS * (width + 1) - 1), np.nan, np.float32)
    for number, map_HW in enumerate(maps_CHW):
        top, left = number // COLUMNS * (height + 1), number % COLUMNS * (width + 1)
        grid[top : top + height, left : left + width] = map_HW
    return grid


def _rows(maps_CHW: NDArray[np.float32]) -> int:
    return math.ceil(min(len(maps_CHW), MOST_MAPS) / COLUMNS)
