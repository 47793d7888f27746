"""How grey training images are composed, so that a drawing from elsewhere can be made alike.

MNIST's digits are light on dark, scaled to fit a box of 20 x 20 pixels and placed with their
centre of mass at the centre of 28 x 28 (LeCun et al. 1998, "Gradient-based learning applied to
document recognition", section III.A). Fashion-MNIST's articles touch two opposite edges. Neither
is assumed: both are measured, by the same rules that then read a person's own picture.

Levels are brightness in [0, 1]. Shapes: N images, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
Centring = Literal["mass", "box"]

ENOUGH = 0.9  # the share of training images that must agree before a rule is taken for theirs
LITTLE_CONTRAST = 0.1  # between ground and figure: below it nothing is drawn
INK = 0.2  # of the way from ground to figure, from where a pixel belongs to the figure
HIGH = 99.5  # percentile for the lightest and the darkest level: single pixels are noise
NEAR = 1 / 16  # of the side: how far from centre or size still counts as the same
MOST_MEASURED = 2000  # training images, evenly spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """What stands out from the ground of one image.

    Attributes:
        ground: median level of the outermost pixels.
        level: of the figure, at the end of the scale that is farther from the ground.
        top, left, height, width: of the smallest box around the figure, in pixels.
        mass_y, mass_x: centre of mass of the figure, in pixels from the image's upper left corner;
            a pixel's own centre lies at 0.5.
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
    ink_HW = ink(image_HW, ground, level)
    rows, columns = (np.flatnonzero((ink_HW >= INK).any(axis=axis)) for axis in (1, 0))
    total = float(ink_HW.sum(dtype=np.float64))
    height, width = ink_HW.shape
    return Figure(
        ground=ground,
        level=level,
        top=int(rows[0]),
        left=int(columns[0]),
        height=int(rows[-1] - rows[0] + 1),
        width=int(columns[-1] - columns[0] + 1),
        mass_y=float(ink_HW.sum(axis=1, dtype=np.float64) @ (np.arange(height) + 0.5)) / total,
        mass_x=float(ink_HW.sum(axis=0, dtype=np.float64) @ (np.arange(width) + 0.5)) / total,
    )


def ink(image_HW: Grey, ground: float, level: float) -> Grey:
    """How much of the figure is in each pixel, in [0, 1]: 0 on the ground, 1 at `level`."""
    share_HW: Grey = np.clip((image_HW - ground) / (level - ground), 0, 1).astype(np.float32)
    return share_HW


@dataclass(frozen=True, kw_only=True, slots=True)
class Composition:
    """What at least nine in ten training images have in common.

    Attributes:
        on_dark: the figure is lighter than the ground; False: darker.
        ground: median level of the ground.
        level: median level of the figure, where it is much the same in all images (ink, chalk);
            None where it belongs to the figure (clothes).
        size: longer side of the figure's box as a share of the image's side.
        centring: what lies at the image's centre: the figure's centre of mass, or its box. It and
            `size` are None unless both are common.
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
        """Raises ValueError where a value is none that `measure` can find."""
        found = cls(**stored)
        shares = [found.ground, *(s for s in (found.level, found.size) if s is not None)]
        if not isinstance(found.on_dark, bool) or found.centring not in (None, *get_args(Centring)):
            raise ValueError("composition: on_dark is true or false, centring mass, box or null")
        if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares):
            raise ValueError("composition: ground, level and size are shares in [0, 1]")
        if (found.size is None) != (found.centring is None) or found.size == 0:
            raise ValueError("composition: size and centring come together, and size is above 0")
        return found

    def fits(self, figure: Figure, side: int) -> bool:
        """Whether an image of `side` x `side` pixels is composed like this already."""
        if figure.on_dark != self.on_dark:
            return False
        if self.size is None or self.centring is None:
            return True
        longer = max(figure.height, figure.width) / side
        return abs(longer - self.size) <= NEAR and _offset(figure, side, self.centring) <= NEAR


def measure(images_NCHW: NDArray[np.uint8]) -> Composition | None:
    """What grey images have in common; None where it is no figure on a plain ground.

    Always None of images in colour, which are taken for natural ones.
    """
    if images_NCHW.shape[1] != 1:
        return None
    images_NHW = images_NCHW[:, 0]
    chosen = np.unique(np.linspace(0, len(images_NHW) - 1, MOST_MEASURED).astype(int))
    found = [find_figure(images_NHW[index].astype(np.float32) / 255) for index in chosen]
    figures = [figure for figure in found if figure is not None]
    on_dark = sum(figure.on_dark for figure in figures) >= len(found) / 2
    alike = [figure for figure in figures if figure.on_dark == on_dark]
    grounds, levels = ([getattr(f, name) for f in alike] for name in ("ground", "level"))
    if len(alike) < ENOUGH * len(found) or _middle_spread(grounds) > 2 * LITTLE_CONTRAST:
        return None
    side = max(images_NHW.shape[1:])
    size, centring = _placing(alike, side, len(found))
    return Composition(
        on_dark=on_dark,
        ground=float(np.median(grounds)),
        level=float(np.median(levels)) if _middle_spread(levels) <= LITTLE_CONTRAST else None,
        size=size,
        centring=centring,
    )


def _placing(figures: list[Figure], side: int, count: int) -> tuple[float | None, Centring | None]:
    """(size, centring) of figures from `count` images."""
    longer = np.array([max(figure.height, figure.width) for figure in figures]) / side
    size = float(np.median(longer))
    if (np.abs(longer - size) <= NEAR).sum() < ENOUGH * count:
        return None, None
    kinds: tuple[Centring, ...] = ("mass", "box")
    offsets = {
        kind: np.array([_offset(figure, side, kind) for figure in figures]) for kind in kinds
    }
    kind = min(kinds, key=lambda kind: float(np.median(offsets[kind])))
    if (offsets[kind] <= NEAR).sum() < ENOUGH * count:
        return None, None
    return size, kind


def _offset(figure: Figure, side: int, centring: Centring) -> float:
    """How far the figure lies from the image's centre, along the worse axis; share of the side."""
    if centring == "mass":
        y, x = figure.mass_y, figure.mass_x
    else:
        y, x = figure.top + figure.height / 2, figure.left + figure.width / 2
    return max(abs(y - side / 2), abs(x - side / 2)) / side


def _middle_spread(values: list[float]) -> float:
    """Width of the range that the middle nine tenths lie in."""
    low, high = np.percentile(values, (5, 95)) if values else (0, 1)
    return float(high - low)
