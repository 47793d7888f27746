"""How grey training images are composed, and a person's own picture made like them.

MNIST's digits are light on dark, scaled to fit a box of 20 x 20 pixels and placed with their
centre of mass at the centre of 28 x 28 (LeCun et al. 1998, "Gradient-based learning applied to
document recognition", section III.A). Fashion-MNIST's articles touch two opposite edges. Neither
is assumed: both are measured, by the same rules that then read a person's own picture.

Levels are brightness in [0, 1]. Shapes: N images, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import center_of_mass
from torch import Tensor

from data.folders import pictures
from data.folders.preparation import Preparation, words

Grey = NDArray[np.float32]
Centring = Literal["mass", "box"]

ENOUGH = 0.9  # the share of training images that must agree before a rule is taken for theirs
LITTLE_CONTRAST = 0.1  # between ground and figure: below it nothing is drawn
INK = 0.2  # of the way from ground to figure, from where a pixel belongs to the figure
HIGH = 99.5  # percentile for the lightest and the darkest level: single pixels are noise
NEAR = 1 / 16  # of the side: how far from centre or size still counts as the same
MAX_MEASURED = 2000  # training images, evenly spread
LONGEST = 512  # pixels a side that a drawing is looked at in
AS_IT_IS = "as it is"


class Figure(NamedTuple):
    """What stands out from the ground of one image.

    ground: median level of the outermost pixels. level: of the figure, at the end of the scale
    that is farther from the ground. top, left: of the smallest box around it. ink_HW: how much of
    the figure is in each pixel of the box, 0 to 1.
    """

    ground: float
    level: float
    top: int
    left: int
    ink_HW: Grey

    @property
    def on_dark(self) -> bool:
        return self.level > self.ground


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """What at least nine in ten training images have in common.

    on_dark: the figure is lighter than the ground. ground: its median level. level: median level
    of the figure, where it is much the same in all images (ink, chalk); None where it belongs to
    the figure (clothes). size: longer side of the figure's box as a share of the image's side.
    centring: what lies at the image's centre: the figure's centre of mass, or its box. size and
    centring are None unless both are common.
    """

    on_dark: bool
    ground: float
    level: float | None
    size: float | None
    centring: Centring | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, for `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Composition:
        """Raises ValueError or TypeError for what `measure` cannot find."""
        found = cls(**stored)
        shares = [found.ground, *(s for s in (found.level, found.size) if s is not None)]
        if (
            not isinstance(found.on_dark, bool)
            or found.centring not in (None, *get_args(Centring))
            or not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares)
        ):
            raise ValueError("composition: polarity, centring or shares that cannot be")
        return found


def find_figure(image_HW: Grey) -> Figure | None:
    """The figure of a grey image; None where hardly anything stands out from the ground."""
    border = [image_HW[0], image_HW[-1], image_HW[1:-1, 0], image_HW[1:-1, -1]]
    ground = float(np.median(np.concatenate(border)))
    darkest, lightest = np.percentile(image_HW, (100 - HIGH, HIGH))
    level = float(lightest if lightest - ground >= ground - darkest else darkest)
    if abs(level - ground) < LITTLE_CONTRAST:
        return None
    ink_HW = np.clip((image_HW - ground) / (level - ground), 0, 1).astype(np.float32)
    rows, columns = (np.flatnonzero((ink_HW >= INK).any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    return Figure(ground, level, top, left, ink_HW[top : rows[-1] + 1, left : columns[-1] + 1])


def measure(images_NCHW: NDArray[np.uint8]) -> Composition | None:
    """What grey images have in common; None where it is no figure on a plain ground.

    Always None of images in colour, which are taken for natural ones.
    """
    if images_NCHW.shape[1] != 1:
        return None
    images_NHW = images_NCHW[:, 0]
    chosen = np.unique(np.linspace(0, len(images_NHW) - 1, MAX_MEASURED).astype(int))
    found = [find_figure(images_NHW[index].astype(np.float32) / 255) for index in chosen]
    figures = [figure for figure in found if figure is not None]
    on_dark = sum(figure.on_dark for figure in figures) >= len(found) / 2
    alike = [figure for figure in figures if figure.on_dark == on_dark]
    grounds, levels = ([getattr(f, name) for f in alike] for name in ("ground", "level"))
    if len(alike) < ENOUGH * len(found) or _middle_spread(grounds) > 2 * LITTLE_CONTRAST:
        return None
    side = max(images_NHW.shape[1:])
    sizes = np.array([max(figure.ink_HW.shape) for figure in alike]) / side
    kinds: tuple[Centring, ...] = get_args(Centring)
    offsets = {kind: np.array([_offset(f, side, kind) for f in alike]) for kind in kinds}
    centring = min(kinds, key=lambda kind: float(np.median(offsets[kind])))
    size = float(np.median(sizes))
    agreeing = min((np.abs(sizes - size) <= NEAR).sum(), (offsets[centring] <= NEAR).sum())
    is_placed = agreeing >= ENOUGH * len(found)
    return Composition(
        on_dark=on_dark,
        ground=float(np.median(grounds)),
        level=float(np.median(levels)) if _middle_spread(levels) <= LITTLE_CONTRAST else None,
        size=size if is_placed else None,
        centring=centring if is_placed else None,
    )


def read_alike(
    path: Path,
    image_shape: tuple[int, int, int],
    composition: Composition | None,
    preparation: Preparation,
) -> tuple[Tensor, list[str]]:
    """The image file as uint8 CHW of `image_shape`, and what was done to it, in words.

    One that has that size and the training images' polarity already is taken as it is.

    Args:
        composition: of the training images; None, as for natural images: resized only.
        preparation: of the training images.

    Raises:
        DataError: not a picture that can be read.
    """
    channels, height, width = image_shape
    with pictures.hushed(), pictures.opened(path) as image:
        given, is_deep = image.size, pictures.is_deep(image)
        notes = [words(pictures.levels_of(image, preparation))] if is_deep else []
    [picture_HWC] = pictures.read_pictures([path], image_shape, preparation)
    if composition is not None and channels == 1:
        figure = find_figure(_read_grey(path, max(LONGEST, height, width), preparation))
        if figure is None:
            notes.append("blank: nothing stands out from the ground")
        elif given != (width, height) or figure.on_dark != composition.on_dark:
            if figure.on_dark != composition.on_dark:
                picture_HWC = 255 - picture_HWC
                notes.append(f"{'light on dark' if figure.on_dark else 'dark on light'}, inverted")
            if composition.size is not None:
                image_HW = _recompose(figure, composition, (height, width))
                place = "centre of mass" if composition.centring == "mass" else "middle"
                notes.append(f"cropped, scaled, centred by its {place}")
                return torch.from_numpy(image_HW)[None], notes
    if given != (width, height):
        notes.append(f"resized from {given[0]}x{given[1]}")
        if preparation.fit == "pad" and given[0] * height != given[1] * width:
            notes.append("padded at its sides")
    return torch.from_numpy(picture_HWC).permute(2, 0, 1), notes or [AS_IT_IS]


def _read_grey(path: Path, longest: int, preparation: Preparation) -> Grey:
    """Its longer side at most `longest` pixels; its proportions stay."""
    with pictures.hushed(), pictures.decoded(path, (longest, longest), "pad") as image:
        grey = pictures.flattened(image, preparation, "L")
    grey.thumbnail((longest, longest), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


def _recompose(
    figure: Figure, composition: Composition, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """uint8 image of `size`: the figure on the training images' ground."""
    height, width = figure.ink_HW.shape
    longest = (composition.size or 1) * max(size)
    scale = min(longest / max(height, width), size[0] / height, size[1] / width)
    height, width = (max(1, round(side * scale)) for side in (height, width))
    drawing = Image.fromarray(np.ascontiguousarray(figure.ink_HW))
    ink_HW = np.asarray(drawing.resize((width, height), Image.Resampling.BILINEAR))
    level = composition.level
    if level is not None:
        # Thin lines get faint when they are made small: they are given the training's ink again.
        ink_HW = np.clip(ink_HW / max(float(np.percentile(ink_HW, 99)), 0.1), 0, 1)
    else:  # the figure keeps its own strength
        strength = abs(figure.level - figure.ground)
        level = composition.ground + (strength if composition.on_dark else -strength)
    y, x = _centre(ink_HW, composition.centring or "box")
    top = min(max(round(size[0] / 2 - y), 0), size[0] - height)  # never over the edge
    left = min(max(round(size[1] / 2 - x), 0), size[1] - width)
    image_HW = np.full(size, composition.ground, dtype=np.float32)
    image_HW[top : top + height, left : left + width] += ink_HW * (level - composition.ground)
    levels_HW: NDArray[np.uint8] = np.rint(255 * image_HW.clip(0, 1)).astype(np.uint8)
    return levels_HW


def _centre(ink_HW: Grey, centring: Centring) -> tuple[float, float]:
    """(y, x); a pixel's own centre lies at 0.5."""
    if centring == "box":
        return ink_HW.shape[0] / 2, ink_HW.shape[1] / 2
    y, x = center_of_mass(ink_HW)
    return float(y) + 0.5, float(x) + 0.5


def _offset(figure: Figure, side: int, centring: Centring) -> float:
    """How far it lies from the image's centre, along the worse axis; share of the side."""
    y, x = _centre(figure.ink_HW, centring)
    return max(abs(figure.top + y - side / 2), abs(figure.left + x - side / 2)) / side


def _middle_spread(values: Sequence[float]) -> float:
    """Width of the range that the middle nine tenths lie in."""
    low, high = np.percentile(values, (5, 95)) if values else (0, 1)
    return float(high - low)
