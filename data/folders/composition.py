"""How grey training images are composed, and how the user's own picture is made like them.

MNIST's digits are light on dark, scaled to fit a box of 20 x 20 pixels and placed with their
centre of mass at the centre of 28 x 28 (LeCun et al. 1998, "Gradient-based learning applied to
document recognition", section III.A). Fashion-MNIST's articles touch two opposite edges. Polarity
and size are measured by the same rules that are then applied to the user's own picture. It is
centred by its mass if the training images are centred at all: elsewhere a figure's place may be
what tells classes apart.

Levels are brightness in [0, 1]. Shapes: N images, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from data.folders import pictures
from data.folders.preparation import Preparation, words

Grey = NDArray[np.float32]

ENOUGH = 0.9  # share of training images that must agree before a rule counts as theirs
LITTLE_CONTRAST = 0.1  # between ground and figure: below it the image counts as blank
INK = 0.2  # fraction of the way from ground to figure from which a pixel belongs to the figure
HIGH = 99.5  # percentile for the lightest and the darkest level: single pixels are noise
NEAR = 1 / 16  # of the side: how far from the common size still counts as the same
FAINT = 0.5  # share of a figure's contrast that must be left
MAX_MEASURED = 2000  # training images, evenly spread
LONGEST = 512  # maximum pixels per side at which a drawing is examined
AS_IT_IS = "as it is"


class Foreground(NamedTuple):
    """What stands out from the ground of one image."""

    ground: float  # median level of the outermost pixels
    level: float  # of the figure, at the end of the scale that is farther from the ground
    ink_HW: Grey  # how much of it is in each pixel of the smallest box around it, 0 to 1
    box_off: float  # how far that box is off the image's centre, as a share of the longer side
    mass_off: float  # and the centre of mass

    @property
    def on_dark(self) -> bool:
        return self.level > self.ground


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """What at least nine in ten training images have in common."""

    on_dark: bool  # the figure is lighter than the ground
    ground: float  # median levels of both
    level: float
    size: float | None  # longer side of its box as a share of the image's; None if that varies, or
    # if the figure is not at the centre

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Composition:
        """From `asdict`'s result; raises ValueError, TypeError or KeyError for anything else."""
        on_dark, size, level = bool(stored["on_dark"]), stored["size"], stored["level"]
        composition = cls(
            on_dark=on_dark,
            ground=float(stored["ground"]),
            level=float(on_dark if level is None else level),  # None in earlier versions: it varied
            size=None if size is None else float(size),
        )
        if not all(0 <= one <= 1 for one in astuple(composition) if one is not None):
            raise ValueError("levels and size of a composition are numbers from 0 to 1")
        return composition


def find_figure(image_HW: Grey) -> Foreground | None:
    """The figure of a grey image; None if hardly anything stands out from the ground."""
    border = [image_HW[0], image_HW[-1], image_HW[1:-1, 0], image_HW[1:-1, -1]]
    ground = float(np.median(np.concatenate(border)))
    darkest, lightest = np.percentile(image_HW, (100 - HIGH, HIGH))
    level = float(lightest if lightest - ground >= ground - darkest else darkest)
    if abs(level - ground) < LITTLE_CONTRAST:
        return None
    ink_HW = np.clip((image_HW - ground) / (level - ground), 0, 1).astype(np.float32)
    rows, columns = (np.flatnonzero((ink_HW >= INK).any(axis=axis)) for axis in (1, 0))
    middle = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    return Foreground(
        ground,
        level,
        ink_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1],
        box_off=_off_centre(middle, image_HW.shape),
        mass_off=_off_centre(_centre_of_mass(np.abs(image_HW - ground)), image_HW.shape),
    )


def _off_centre(at: Iterable[float], shape: tuple[int, ...]) -> float:
    offsets = [abs(one + 0.5 - side / 2) for one, side in zip(at, shape, strict=True)]
    return max(offsets) / max(shape)


def _centre_of_mass(ink_HW: Grey) -> tuple[float, ...]:
    """(y, x) in pixels; there must be some ink."""
    sides = enumerate(ink_HW.shape)
    return tuple(
        float(np.average(np.arange(side), weights=ink_HW.sum(1 - axis, dtype=float)))
        for axis, side in sides
    )


def measure(images_NCHW: NDArray[np.uint8]) -> Composition | None:
    """What grey images have in common; None for others, and if there is no plain ground."""
    if images_NCHW.shape[1] != 1:
        return None
    images_NHW = images_NCHW[:: max(1, len(images_NCHW) // MAX_MEASURED), 0]
    found = [find_figure(image_HW.astype(np.float32) / 255) for image_HW in images_NHW]
    figures = [figure for figure in found if figure is not None]
    on_dark = sum(figure.on_dark for figure in figures) >= len(found) / 2
    alike = [figure for figure in figures if figure.on_dark == on_dark]
    grounds = [figure.ground for figure in alike]
    few = len(alike) < ENOUGH * len(found)
    if few or np.ptp(np.percentile(grounds, (5, 95))) > 2 * LITTLE_CONTRAST:  # nine in ten
        return None
    sizes = np.array([max(figure.ink_HW.shape) for figure in alike]) / max(images_NHW.shape[1:])
    size = float(np.median(sizes))
    off_centre = np.array([min(figure.box_off, figure.mass_off) for figure in alike])
    fits = (np.abs(sizes - size) <= NEAR) & (off_centre <= NEAR)
    return Composition(
        on_dark=on_dark,
        ground=float(np.median(grounds)),
        level=float(np.median([figure.level for figure in alike])),
        size=size if fits.sum() >= ENOUGH * len(found) else None,
    )


def read_alike(
    path: Path,
    image_shape: tuple[int, int, int],
    composition: Composition | None,
    preparation: Preparation,
) -> tuple[Tensor, list[str]]:
    """The image file as uint8 CHW of `image_shape`, and what was done to it, in words.

    A picture that already has that size and the training images' polarity is used as it is. One
    whose figure has their ground, size and place is only resized: cropping would move it by some
    pixels, and an enlarged training image must become the image that it was made from. Without a
    `composition`, as for natural images, and after training on picture files it is only resized: a
    test picture must be read as `finalize` read it. Raises DataError.
    """
    channels, height, width = image_shape
    [picture_HWC] = pictures.read_pictures([path], image_shape, preparation)
    notes: list[str] = []
    with pictures.HUSHED(), pictures.opened(path) as image:
        given = image.size
        if pictures.is_deep_colour(image):
            notes.append(pictures.UPPER_BITS)
        elif pictures.is_deep(image):
            notes.append(words(pictures.levels_of(pictures.samples(image), preparation)))
    keeps_shape = given[0] * height == given[1] * width
    if composition is not None and channels == 1 and preparation.fit == "stretch":
        figure = find_figure(_read_grey(path, max(LONGEST, height, width), preparation))
        if figure is None:
            notes.append("blank: nothing stands out from the ground")
        elif given != (width, height) or figure.on_dark != composition.on_dark:
            if figure.on_dark != composition.on_dark:
                picture_HWC = 255 - picture_HWC
                notes.append(f"{'light on dark' if figure.on_dark else 'dark on light'}, inverted")
            is_composed = keeps_shape and _is_composed(picture_HWC[..., 0], figure, composition)
            if composition.size is not None and not is_composed:
                image_HW = _recompose(figure.ink_HW, composition, (height, width))
                notes.append("cropped, scaled, centred by its mass")
                return torch.from_numpy(image_HW)[None], notes
    if given != (width, height):
        notes.append(f"resized from {given[0]}x{given[1]}")
        if preparation.fit == "pad" and not keeps_shape:
            notes.append("padded at its sides")
    return torch.from_numpy(picture_HWC).permute(2, 0, 1), notes or [AS_IT_IS]


def _read_grey(path: Path, longest: int, preparation: Preparation) -> Grey:
    """The picture in grey, its longer side at most `longest` pixels, its proportions kept."""
    with pictures.HUSHED(), pictures.decoded(path, (longest, longest), "pad") as image:
        grey = pictures.flattened(image, preparation, "L")
    grey.thumbnail((longest, longest), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


def _is_composed(image_HW: NDArray[np.uint8], figure: Foreground, composition: Composition) -> bool:
    """Whether a picture has the training images' ground, size and place when only resized, and
    its thin lines did not become faint; figure: from before resizing and inversion."""
    levels_HW: Grey = image_HW.astype(np.float32) / np.float32(255)
    small = find_figure(levels_HW)
    if small is None or composition.size is None:
        return False
    ground = figure.ground if figure.on_dark == composition.on_dark else 1 - figure.ground
    size = max(small.ink_HW.shape) / max(image_HW.shape)
    return (
        abs(ground - composition.ground) <= LITTLE_CONTRAST / 4
        and abs(small.level - small.ground) >= FAINT * abs(figure.level - figure.ground)
        and abs(size - composition.size) <= NEAR
        and (size >= 1 - 2 * NEAR or small.mass_off <= NEAR)  # at the edges it cannot be moved
    )


def _recompose(ink_HW: Grey, composition: Composition, size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 image of `size`: the figure on the training images' ground."""
    height, width = ink_HW.shape
    longest = (composition.size or 1) * max(size)
    scale = min(longest / max(height, width), size[0] / height, size[1] / width)
    height, width = (max(1, round(side * scale)) for side in (height, width))
    drawing = Image.fromarray(np.ascontiguousarray(ink_HW))
    ink_HW = np.asarray(drawing.resize((width, height), Image.Resampling.BILINEAR))
    # Shrinking makes thin lines faint: they get the ink of the training images again.
    ink_HW = np.clip(ink_HW / max(float(np.percentile(ink_HW, 99)), 0.1), 0, 1)
    y, x = _centre_of_mass(ink_HW)
    top = min(max(round(size[0] / 2 - y - 0.5), 0), size[0] - height)  # never beyond the edge
    left = min(max(round(size[1] / 2 - x - 0.5), 0), size[1] - width)
    image_HW = np.full(size, composition.ground, dtype=np.float32)
    ink_HW = ink_HW * (composition.level - composition.ground)
    image_HW[top : top + height, left : left + width] += ink_HW
    levels_HW: NDArray[np.uint8] = np.rint(255 * image_HW.clip(0, 1)).astype(np.uint8)
    return levels_HW
