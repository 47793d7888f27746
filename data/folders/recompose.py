"""A person's own grey picture made like the training images: same ground, size and place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data.folders.composition import Composition, Figure, Grey, find_figure, ink
from data.folders.pictures import about, read_grey, read_picture
from data.folders.preparation import Fit, Preparation

LONGEST = 512  # pixels a side that a drawing is looked at in
AS_IT_IS = "as it is"
_UNPREPARED = Preparation()
SQUEEZED = 1.2  # how much longer one side may be before it is said that proportions give way


def read_alike(
    path: Path,
    image_shape: tuple[int, int, int],
    composition: Composition | None,
    preparation: Preparation = _UNPREPARED,
) -> tuple[Tensor, list[str]]:
    """The image file as uint8 CHW of `image_shape`, and what was done to it, in words.

    Args:
        composition: of the training images; None, as for natural images: resized only.
        preparation: of the training images.

    Raises:
        DataError: not a picture that can be read.
    """
    channels, height, width = image_shape
    given_width, given_height, notes = about(path, preparation)
    same_size = (given_height, given_width) == (height, width)
    if composition is not None and channels == 1:
        grey_HW = read_grey(path, max(LONGEST, height, width), preparation)
        figure = find_figure(grey_HW)
        if figure is not None and same_size and composition.fits(figure, max(height, width)):
            return torch.from_numpy(np.rint(255 * grey_HW).astype(np.uint8))[None], [
                *notes,
                AS_IT_IS,
            ]
        if figure is not None:
            image_HW, done = recompose(
                grey_HW, figure, composition, (height, width), preparation.fit
            )
            return torch.from_numpy(image_HW)[None], [*notes, *done]
        if figure is None:
            notes.append("blank: nothing stands out from the ground")
    picture_CHW = read_picture(path, image_shape, preparation)
    if not same_size:
        notes.append(f"resized from {given_width}x{given_height}")
        if not 1 / SQUEEZED < given_width * height / (given_height * width) < SQUEEZED:
            notes.append(
                "padded at its sides" if preparation.fit == "pad" else "proportions changed"
            )
    return picture_CHW, notes or [AS_IT_IS]


def recompose(
    grey_HW: Grey,
    figure: Figure,
    composition: Composition,
    size: tuple[int, int],
    fit: Fit = "stretch",
) -> tuple[NDArray[np.uint8], list[str]]:
    """(uint8 image of `size`, what was done): the figure on the training images' ground."""
    notes = []
    height, width = size
    if figure.on_dark != composition.on_dark:
        notes.append("light on dark, inverted" if figure.on_dark else "dark on light, inverted")
    ink_HW = ink(grey_HW, figure.ground, figure.level)
    if composition.size is not None and composition.centring is not None:
        ink_HW = _placed(ink_HW, figure, composition, size)
        place = "centre of mass" if composition.centring == "mass" else "middle"
        notes.append(f"cropped, scaled, centred by its {place}")
    else:
        ink_HW = _resized(ink_HW, height, width) if fit == "stretch" else _padded(ink_HW, size)
        notes.append("resized")
    level = composition.level
    if level is not None:
        # Thin lines get faint when they are made small: they are given the training's ink again.
        strongest = float(np.percentile(ink_HW, 99))
        ink_HW = np.clip(ink_HW / max(strongest, 0.1), 0, 1)
    else:
        # The figure keeps its own strength.
        sign = 1 if composition.on_dark else -1
        level = composition.ground + sign * abs(figure.level - figure.ground)
    image_HW = composition.ground + ink_HW * (level - composition.ground)
    return np.rint(255 * image_HW.clip(0, 1)).astype(np.uint8), notes


def _placed(ink_HW: Grey, figure: Figure, composition: Composition, size: tuple[int, int]) -> Grey:
    """The figure alone, scaled to the training images' size and laid on an empty image."""
    assert composition.size is not None
    height, width = size
    top, left = figure.top, figure.left
    cut_HW = ink_HW[top : top + figure.height, left : left + figure.width]
    scale = composition.size * max(size) / max(figure.height, figure.width)
    small_HW = _resized(
        cut_HW, max(1, round(figure.height * scale)), max(1, round(figure.width * scale))
    )
    rows, columns = small_HW.shape
    middle_y, middle_x = rows / 2, columns / 2
    if composition.centring == "mass":
        total = float(small_HW.sum())
        middle_y = float(small_HW.sum(axis=1) @ (np.arange(rows) + 0.5)) / total
        middle_x = float(small_HW.sum(axis=0) @ (np.arange(columns) + 0.5)) / total
    # Never over the edge, however far the mass lies from the middle.
    y = min(max(round(height / 2 - middle_y), 0), height - rows)
    x = min(max(round(width / 2 - middle_x), 0), width - columns)
    placed_HW = np.zeros(size, dtype=np.float32)
    placed_HW[y : y + rows, x : x + columns] = small_HW
    return placed_HW


def _padded(ink_HW: Grey, size: tuple[int, int]) -> Grey:
    """The whole of it as large as it fits, in the middle of an empty image."""
    height, width = size
    scale = min(height / ink_HW.shape[0], width / ink_HW.shape[1])
    rows, columns = (max(1, round(side * scale)) for side in ink_HW.shape)
    top, left = (height - rows) // 2, (width - columns) // 2
    whole_HW = np.zeros(size, dtype=np.float32)
    whole_HW[top : top + rows, left : left + columns] = _resized(ink_HW, rows, columns)
    return whole_HW


def _resized(image_HW: Grey, height: int, width: int) -> Grey:
    """Antialiased."""
    picture = Image.fromarray(np.ascontiguousarray(image_HW, dtype=np.float32))
    small = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32)
