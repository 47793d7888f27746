"""Images drawn side by side: predictions, the surest mistakes, and feature maps on their way."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from search.analysis.inside import EACH, FeatureMaps, Mistake
from search.analysis.wording import fitted, percent, printable
from search.figures.files import rendered

if TYPE_CHECKING:
    from search.training.bundle import Bundle, Prediction

MOST_MAPS, MOST_STAGES = 32, 20
COLUMNS = 16  # maps a row
MOST = 200  # pictures on one sheet
CELL_WIDTH, PICTURE_HEIGHT, TEXT_HEIGHT = 1.7, 1.3, 0.95  # inches
LETTERS = 30  # in a line of text below a picture
NOTE_LINES = 3


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
    counts = [min(len(stage.maps_CHW), MOST_MAPS) for stage in shown]
    heights = [1.3, *(0.62 * math.ceil(count / COLUMNS) + 0.3 for count in counts)]
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


def tile(maps_CHW: NDArray[Any], columns: int = COLUMNS) -> NDArray[np.float32]:
    """Maps in reading order, so many a row, a pixel of NaN between them."""
    count, height, width = maps_CHW.shape
    rows = math.ceil(count / columns)
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan, np.float32)
    for number, map_HW in enumerate(maps_CHW):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        grid[top : top + height, left : left + width] = map_HW
    return grid


def contact_sheet(bundle: Bundle, predictions: Sequence[Prediction]) -> bytes:
    """PNG of the first `MOST` predictions, in their order: file, label, probability, treatment."""
    return rendered(partial(_draw_sheet, bundle, predictions), "png", 120)


def _draw_sheet(bundle: Bundle, predictions: Sequence[Prediction]) -> Figure:
    shown = predictions[:MOST]
    across = min(len(shown), max(4, math.ceil(math.sqrt(1.5 * len(shown)))))
    rows, tall = math.ceil(len(shown) / across), PICTURE_HEIGHT + TEXT_HEIGHT
    # A title needs the room of four cells; without axes and ticks, one drawing holds all pictures.
    width, height = max(across, 4) * CELL_WIDTH, rows * tall + 0.5
    sheet = Figure(figsize=(width, height), facecolor="white")
    axes = sheet.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    of = "" if len(shown) == len(predictions) else f"the first {len(shown)} of "
    axes.text(
        0.1, 0.3, f"{of}{len(predictions)} pictures as the network saw them; trial {bundle.trial} "
        f"of study {bundle.study}, seed {bundle.seed}", fontsize=9, va="center",
    )  # fmt: skip
    for index, prediction in enumerate(shown):
        left, top = index % across * CELL_WIDTH, 0.5 + index // across * tall
        middle, half = left + CELL_WIDTH / 2, PICTURE_HEIGHT / 2 - 0.05
        place = (middle - half, middle + half, top + 2 * half, top)
        image = as_rgb(prediction.image_CHW.numpy())
        axes.imshow(image, extent=place, interpolation="nearest", aspect="auto")
        name, share = bundle.class_names[prediction.label], prediction.probability
        label = f"{fitted(name)}  {percent(share, 1)}"
        bottom = top + 2 * half
        axes.text(middle, bottom + 0.12, label, ha="center", va="center", size=8, weight="bold")
        notes = printable("; ".join(prediction.notes))
        wrapped = textwrap.wrap(notes, LETTERS + 4, max_lines=NOTE_LINES, placeholder=" …")
        below = "\n".join([fitted(prediction.path.name, LETTERS), *wrapped])
        axes.text(middle, bottom + 0.22, below, ha="center", va="top", size=5.5, linespacing=1.2)
    axes.set(xlim=(0, width), ylim=(height, 0))
    return sheet
