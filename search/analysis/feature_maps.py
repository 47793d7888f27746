"""One image on its way through the network: the feature maps of each stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from search.analysis.pixels import as_rgb

if TYPE_CHECKING:
    from search.training.task import StageMaps

MOST_MAPS, MOST_STAGES = 32, 20
COLUMNS = 16  # maps a row


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureMaps:
    """image_CHW: uint8, what went in; what: the same in words; stages: in running order."""

    image_CHW: NDArray[np.uint8]
    what: str
    stages: tuple[StageMaps, ...]


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
        grid = tile(stage.maps_CHW[:MOST_MAPS])
        axes.imshow(grid, cmap="gray", interpolation="nearest")
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
