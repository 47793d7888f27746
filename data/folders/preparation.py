"""How pictures become images of one shape and 8 bits: decided by the training pictures, for all.

A 16-bit file may hold 12 bits of a camera, a float file anything: taken literally, or clipped to
0 to 255 as Pillow does, it comes out black, white or crushed, so the levels that occur decide.
Does not import torch, NumPy or Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Fit = Literal["pad", "stretch"]
Range = tuple[float, float]  # levels shown as black and white
_OTHER_UNIT = 50  # times as bright: levels up to 255 are so beside 0 to 1 and standardised ones
_AT_A_TIME = 2**20  # levels in double precision: for a whole picture they may take gigabytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """Decided once for all pictures of a data set, and for those classified later."""

    # "pad" scales the whole picture into the image and fills the rest with the colour of its
    # border, because what tells classes apart may be at an edge, which cropping would lose;
    # "stretch" changes its proportions.
    fit: Fit = "stretch"
    levels: Range | None = None  # black and white beyond 8 bits; None if training had 8
    is_first: bool = False  # it is FIRST, whose levels training arrays of 16 bits have, too

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be one of {get_args(Fit)}, but is {self.fit!r}")
        if self.levels is not None and not -math.inf < self.levels[0] < self.levels[1] < math.inf:
            raise ValueError(f"expected two rising levels, but got {self.levels!r}")

    @property
    def of_arrays(self) -> bool:
        """Whether the training images came as arrays of their size, not as picture files."""
        return self.fit == "stretch" and not self.is_first

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Preparation:
        """From `asdict`'s result; raises ValueError, TypeError or KeyError for anything else."""
        # Earlier versions stored levels of integers and of floats separately.
        found = [stored[name] for name in ("levels", "integers", "reals") if stored.get(name)]
        black, white = map(float, found[0]) if found else (0, 0)
        fit, levels = stored["fit"], (black, white) if found else None
        is_first = stored.get("is_first", (fit, levels) == (FIRST.fit, FIRST.levels))
        return cls(fit=fit, levels=levels, is_first=bool(is_first))


# How every picture was prepared before there was a choice; networks from then still expect it.
FIRST = Preparation(fit="stretch", levels=(0, 65535), is_first=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a study reads its data set, fixed so that all its workers read it the same way.

    version: 1, from before proportions were kept: pictures are stretched, to 32 pixels by default,
    and `val` is not a split. 2, from before training and validation were split in the order of
    the pictures' content: there, renaming files changes the split. 3, from before copies of drawn
    test pictures were test pictures, too. 4, from before each part of a split had every class. 5,
    from before data sets that an extension registers were split in the order of their content.
    """

    image_size: int | None = None  # side in pixels of a folder's images; None: chosen from them
    mirror_changes_class: bool | None = None  # overrides the data set's own setting
    version: int = 6


def extent(values: NDArray[Any]) -> Range:
    """Lowest and highest finite level; (0, 0) without any."""
    import numpy as np

    finite = values if values.dtype.kind in "ui" else values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def common_range(extents: Iterable[Range], *, integers: bool) -> Range | None:
    """One scale for pictures of these extents; None without any.

    From 0 to the next usual white level (12 bits: 4095; floats: 1, 255), so that one more picture
    hardly ever changes it; or the levels that occur, if they fill less than half of that.
    """
    found = list(extents)
    if not found:
        return None
    low, high = min(low for low, _ in found), max(high for _, high in found)
    if integers:
        top = float((1 << int(high).bit_length()) - 1) if high > 0 else 0.0
    else:
        top = next((top for top in (1.0, 255.0, 65535.0) if high <= top), 0.0)
    if low >= 0 and high - low > top / 2 > 0:
        return 0.0, top
    return (low, high) if low < high else (low, max(low + 1, math.nextafter(low, math.inf)))


def levels_of_arrays(images: NDArray[Any]) -> Range | None:
    """The levels that become black and white; None for uint8, which stays unchanged."""
    if images.dtype == "uint8":
        return None
    return common_range([extent(images)], integers=images.dtype.kind != "f")


def unit_fault(training: NDArray[Any], others: NDArray[Any], what: str) -> str:
    """How the units of the images (N, ...) differ, and the remedy; empty if they do not.

    They do if most pictures of one part are _OTHER_UNIT times as bright as the brightest of the
    other, and too many to be so by chance. Pictures of zeros look the same in every unit.
    """
    import numpy as np

    peaks = []
    for images in (training, others):
        pixels = tuple(range(1, images.ndim))
        high, low = (it(images, axis=pixels).astype(np.float64) for it in (np.max, np.min))
        peaks.append(np.maximum(high, -low)[(high > 0) | (low < 0)])
    if not all(map(len, peaks)):
        return ""
    dim, bright = sorted(peaks, key=np.max)
    above = np.arange(np.count_nonzero(bright > _OTHER_UNIT * dim.max()))
    # The probability that the brightest of all these pictures, so many, are all in one part.
    chance = np.prod((len(bright) - above) / (len(bright) + len(dim) - above))
    if 2 * len(above) <= len(bright) or chance > 0.001:
        return ""
    one, other = ("{:.6g} to {:.6g}".format(*extent(it)) for it in (training, others))
    return (
        f"training images have levels from {one} but {what} images from {other}, as if only one of "
        "them had been scaled; scale both alike, and give both as the same type"
    )


def scale(values: NDArray[Any], levels: Range) -> NDArray[np.uint8]:
    """`values` as 0 to 255; NaN becomes 0."""
    import numpy as np

    black, white = levels
    flat, scaled = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, len(flat), _AT_A_TIME):
        part = flat[start : start + _AT_A_TIME].astype(np.float64)
        levels_256 = np.nan_to_num(np.rint((part - black) * (255 / (white - black))))
        scaled[start : start + _AT_A_TIME] = levels_256.clip(0, 255)
    return scaled.reshape(values.shape)


def words(levels: Range) -> str:
    """`levels 0 to 4095 made 0 to 255`."""
    return f"levels {levels[0]:.6g} to {levels[1]:.6g} made 0 to 255"
