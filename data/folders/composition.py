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

from data.folders.pictures import about, read_grey, read_picture
from data.folders.preparation import Fit, Preparation

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
    that is farther from the ground. top, left, height, width: of the smallest box around it.
    mass_y, mass_x: its centre of mass, in pixels from the image's upper left corner.
    """

    ground: float
    level: float
    top: int
    left: int
    height: int
    width: int
    mass_y: float
    mass_x: float

    @property
    def on_dark(self) -> bool:
        return self.level > self.ground

    def offset(self, side: int, centring: Centring) -> float:
        """How far it lies from the image's centre, along the worse axis; share of the side."""
        if centring == "mass":
            y, x = self.mass_y, self.mass_x
        else:
            y, x = self.top + self.height / 2, self.left + self.width / 2
        return max(abs(y - side / 2), abs(x - side / 2)) / side


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
        """JSON-ready form; `from_dict` gives the composition back."""
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

    def fits(self, figure: Figure, side: int) -> bool:
        """Whether an image of `side` x `side` pixels is composed like this already."""
        if figure.on_dark != self.on_dark or self.size is None or self.centring is None:
            return figure.on_dark == self.on_dark
        longer = max(figure.height, figure.width) / side
        return abs(longer - self.size) <= NEAR and figure.offset(side, self.centring) <= NEAR


def find_figure(image_HW: Grey) -> Figure | None:
    """The figure of a grey image; None where hardly anything stands out from the ground."""
    border = np.concatenate(
        [image_HW[0], image_HW[-1], image_HW[1:-1, 0], image_HW[1:-1, -1]], dtype=np.float64
    )
    ground = float(np.median(border))
    darkest, lightest = np.percentile(image_HW, (100 - HIGH, HIGH))
    level = float(lightest if lightest - ground >= ground - darkest else darkest)
    if abs(level - ground) < LITTLE_CONTRAST:
        return None
    ink_HW = _ink(image_HW, ground, level)
    rows, columns = (np.flatnonzero((ink_HW >= INK).any(axis=axis)) for axis in (1, 0))
    mass_y, mass_x = _centre_of_mass(ink_HW)
    return Figure(
        ground=ground,
        level=level,
        top=int(rows[0]),
        left=int(columns[0]),
        height=int(rows[-1] - rows[0] + 1),
        width=int(columns[-1] - columns[0] + 1),
        mass_y=mass_y,
        mass_x=mass_x,
    )


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
    size, centring = _placing(alike, max(images_NHW.shape[1:]), len(found))
    return Composition(
        on_dark=on_dark,
        ground=float(np.median(grounds)),
        level=float(np.median(levels)) if _middle_spread(levels) <= LITTLE_CONTRAST else None,
        size=size,
        centring=centring,
    )


def read_alike(
    path: Path,
    image_shape: tuple[int, int, int],
    composition: Composition | None,
    preparation: Preparation,
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
        if figure is None:
            notes.append("blank: nothing stands out from the ground")
        elif same_size and composition.fits(figure, max(height, width)):
            levels_HW = np.rint(255 * grey_HW).astype(np.uint8)
            return torch.from_numpy(levels_HW)[None], [*notes, AS_IT_IS]
        else:
            size = (height, width)
            image_HW, done = _recompose(grey_HW, figure, composition, size, preparation.fit)
            return torch.from_numpy(image_HW)[None], [*notes, *done]
    picture_CHW = read_picture(path, image_shape, preparation)
    if not same_size:
        notes.append(f"resized from {given_width}x{given_height}")
        if preparation.fit == "pad" and given_width * height != given_height * width:
            notes.append("padded at its sides")
    return picture_CHW, notes or [AS_IT_IS]


def _recompose(
    grey_HW: Grey, figure: Figure, composition: Composition, size: tuple[int, int], fit: Fit
) -> tuple[NDArray[np.uint8], list[str]]:
    """(uint8 image of `size`, what was done): the figure on the training images' ground."""
    notes = []
    if figure.on_dark != composition.on_dark:
        notes.append("light on dark, inverted" if figure.on_dark else "dark on light, inverted")
    ink_HW = _ink(grey_HW, figure.ground, figure.level)
    if composition.size is not None:
        rows = slice(figure.top, figure.top + figure.height)
        ink_HW = ink_HW[rows, figure.left : figure.left + figure.width]
        ink_HW = _scale(ink_HW, composition.size * max(size) / max(ink_HW.shape))
        by_mass = composition.centring == "mass"
        ink_HW = _lay(ink_HW, size, _centre_of_mass(ink_HW) if by_mass else None)
        place = "centre of mass" if by_mass else "middle"
        notes.append(f"cropped, scaled, centred by its {place}")
    elif fit == "pad":
        scale = min(size[0] / ink_HW.shape[0], size[1] / ink_HW.shape[1])
        ink_HW = _lay(_scale(ink_HW, scale), size, None)
        notes.append("resized")
    else:
        ink_HW = _resize(ink_HW, size)
        notes.append("resized")
    level = composition.level
    if level is not None:
        # Thin lines get faint when they are made small: they are given the training's ink again.
        ink_HW = np.clip(ink_HW / max(float(np.percentile(ink_HW, 99)), 0.1), 0, 1)
    else:  # the figure keeps its own strength
        strength = abs(figure.level - figure.ground)
        level = composition.ground + (strength if composition.on_dark else -strength)
    image_HW = composition.ground + ink_HW * (level - composition.ground)
    return np.rint(255 * image_HW.clip(0, 1)).astype(np.uint8), notes


def _lay(small_HW: Grey, size: tuple[int, int], centre: tuple[float, float] | None) -> Grey:
    """On an empty image, its `centre` (its middle if None) in the middle; never over the edge."""
    height, width = small_HW.shape
    y, x = centre or (height / 2, width / 2)
    top = min(max(round(size[0] / 2 - y), 0), size[0] - height)
    left = min(max(round(size[1] / 2 - x), 0), size[1] - width)
    whole_HW = np.zeros(size, dtype=np.float32)
    whole_HW[top : top + height, left : left + width] = small_HW
    return whole_HW


def _ink(image_HW: Grey, ground: float, level: float) -> Grey:
    """How much of the figure is in each pixel, in [0, 1]: 0 on the ground, 1 at `level`."""
    share_HW: Grey = np.clip((image_HW - ground) / (level - ground), 0, 1).astype(np.float32)
    return share_HW


def _centre_of_mass(ink_HW: Grey) -> tuple[float, float]:
    """(y, x); a pixel's own centre lies at 0.5."""
    y, x = center_of_mass(ink_HW)
    return float(y) + 0.5, float(x) + 0.5


def _placing(
    figures: Sequence[Figure], side: int, count: int
) -> tuple[float | None, Centring | None]:
    """(size, centring) of figures from `count` images."""
    longer = np.array([max(figure.height, figure.width) for figure in figures]) / side
    size = float(np.median(longer))
    kinds: tuple[Centring, ...] = get_args(Centring)
    offsets = {kind: np.array([f.offset(side, kind) for f in figures]) for kind in kinds}
    kind = min(kinds, key=lambda kind: float(np.median(offsets[kind])))
    agreeing = min((np.abs(longer - size) <= NEAR).sum(), (offsets[kind] <= NEAR).sum())
    return (size, kind) if agreeing >= ENOUGH * count else (None, None)


def _middle_spread(values: list[float]) -> float:
    """Width of the range that the middle nine tenths lie in."""
    low, high = np.percentile(values, (5, 95)) if values else (0, 1)
    return float(high - low)


def _scale(image_HW: Grey, scale: float) -> Grey:
    height, width = (max(1, round(side * scale)) for side in image_HW.shape)
    return _resize(image_HW, (height, width))


def _resize(image_HW: Grey, size: tuple[int, int]) -> Grey:
    """Antialiased."""
    picture = Image.fromarray(np.ascontiguousarray(image_HW, dtype=np.float32))
    small = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32)
