"""Images side by side: predictions, the most confident mistakes, kernels, and feature maps."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from search.analysis.final_result import FeatureMaps, Mistake
from search.analysis.wording import fitted, percent, printable, told_apart
from search.figures.files import in_our_style, rendered

if TYPE_CHECKING:
    from search.training.bundle import Bundle, Prediction

MOST_MAPS, MOST_STAGES = 32, 20
MOST_WHAT = 70  # characters above the image, from its left edge in the middle
COLUMNS = 16  # maps per row
Panel = tuple[str, NDArray[Any], float]  # heading, image, height in inches
MOST = 200  # pictures on one sheet


@in_our_style
def draw_images(
    rows: Sequence[Sequence[tuple[NDArray[np.uint8], str]]], title: str, caption_inches: float
) -> Figure:
    """Rows of (uint8 (1 or 3, H, W), text below it).

    All on one axes, because a sheet with axes for each picture takes many seconds to draw.
    """
    width, height = 1.7, 1.3 + caption_inches  # of a cell, inches
    across = max(4, *map(len, rows))  # a title needs the width of four cells
    size = across * width, len(rows) * height + 0.5
    sheet = Figure(figsize=size, facecolor="white")
    axes = sheet.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(0.1, 0.3, title, fontsize=9, va="center")
    for row, cells in enumerate(rows):
        top = 0.5 + row * height
        for column, (image_CHW, text) in enumerate(cells):
            left = column * width + (width - 1.2) / 2
            extent = (left, left + 1.2, top + 1.2, top)
            shown_HWC = _in_colour(image_CHW)
            axes.imshow(shown_HWC, extent=extent, interpolation="nearest", aspect="auto")
            axes.text(left + 0.6, top + 1.26, text, ha="center", va="top", size=6, linespacing=1.2)
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    return sheet


def draw_mistakes(
    pairs: Sequence[Sequence[Mistake]], class_names: Sequence[str], title: str
) -> Figure:
    """A row for each pair of classes."""
    names = told_apart(class_names)

    def words(mistake: Mistake) -> str:
        true, wrong = (names[class_names[k]] for k in (mistake.true, mistake.predicted))
        return f"{true}\n→ {wrong}\n{percent(mistake.probability, 0)}"

    rows = [[(mistake.image_CHW, words(mistake)) for mistake in pair] for pair in pairs]
    return draw_images(rows, title, 0.45)


def contact_sheet(bundle: Bundle, predictions: Sequence[Prediction]) -> bytes:
    """PNG of the first `MOST` predictions, in order: label, probability, file, preparation."""
    names = told_apart(bundle.class_names)

    def words(prediction: Prediction) -> str:
        label = names[bundle.class_names[prediction.label]]
        notes = printable("; ".join(prediction.notes))
        wrapped = textwrap.wrap(notes, 30, max_lines=3, placeholder=" …")
        name = fitted(prediction.path.name, 30)
        return "\n".join([f"{label}  {percent(prediction.probability, 1)}", name, *wrapped])

    cells = [(one.image_CHW.numpy(), words(one)) for one in predictions[:MOST]]
    across = max(4, math.ceil(math.sqrt(1.5 * len(cells))))
    rows = [cells[start : start + across] for start in range(0, len(cells), across)]
    title = (
        f"{len(cells)} of {len(predictions)} pictures as the network saw them; trial "
        f"{bundle.trial} of study {bundle.study}, seed {bundle.seed}"
    )
    return rendered(draw_images(rows, title, 0.75), "png", 120)


def draw_kernels(kernels: NDArray[np.float32], title: str) -> Figure:
    """Kernels (C_out, C_in, height, width), input channels stacked vertically; grey is zero."""
    limit = float(np.abs(kernels[np.isfinite(kernels)]).max(initial=0.0)) or 1.0
    grid = tile(kernels.reshape(len(kernels), -1, kernels.shape[-1]))
    picture = _panels([("", grid, 8 * grid.shape[0] / grid.shape[1])], title)
    picture.axes[0].images[0].set_clim(-limit, limit)
    return picture


def draw_feature_maps(features: FeatureMaps, title: str) -> Figure:
    """The image, then the first maps of each stage; white is the stage's highest value."""
    panels: list[Panel] = [(fitted(features.what, MOST_WHAT), _in_colour(features.image_CHW), 1.3)]
    for name, maps_CHW in islice(features.stages.items(), MOST_STAGES):
        count, height, width = maps_CHW.shape
        few = "" if count <= MOST_MAPS else f"; the first {MOST_MAPS} are shown"
        words = f"{name}: {count} maps of {height}×{width}{few}"
        rows = math.ceil(min(count, MOST_MAPS) / COLUMNS)
        panels.append((words, tile(maps_CHW[:MOST_MAPS]), 0.62 * rows + 0.3))
    return _panels(panels, title)


@in_our_style
def _panels(panels: Sequence[Panel], title: str) -> Figure:
    """Stacked vertically."""
    heights = [height for *_, height in panels]
    picture = Figure(figsize=(10, sum(heights) + 0.4), layout="constrained")
    picture.suptitle(title, fontsize=9)
    below = picture.subplots(len(panels), 1, height_ratios=heights, squeeze=False).flat
    for axes, (words, image, _) in zip(below, panels, strict=True):
        axes.imshow(image, cmap="gray", interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(words, fontsize=8, loc="left")
    return picture


def _in_colour(image_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey or coloured, as (H, W, 3)."""
    return np.broadcast_to(image_CHW, (3, *image_CHW.shape[1:])).transpose(1, 2, 0)


def tile(maps_CHW: NDArray[Any]) -> NDArray[np.float32]:
    """Maps in reading order, COLUMNS per row, with a pixel of NaN between them."""
    count, height, width = maps_CHW.shape
    rows, columns = math.ceil(count / COLUMNS), min(count, COLUMNS)
    framed = np.full((rows * columns, height + 1, width + 1), np.nan, np.float32)
    framed[:count, :-1, :-1] = maps_CHW
    grid = framed.reshape(rows, columns, height + 1, width + 1).swapaxes(1, 2)
    return grid.reshape(rows * (height + 1), -1)[:-1, :-1]
