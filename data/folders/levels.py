"""Numbers of more than 8 bits, brought to 8 with one scale for all of a data set.

A file of 16 bits may hold 12 of a camera, one of floats anything: taken at its word, or clipped to
0 to 255 as Pillow does, it comes out black, white or crushed. So the levels that are there decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.folders.preparation import Preparation, Range

_PHOTOMETRIC = 262  # the TIFF tag; 0: white is zero
_WHITE_LEVELS = (1.0, 255.0, 65535.0)  # usual ones of floats


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow has its samples in more than 8 bits: grey pictures alone."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def extent(parts: Iterable[NDArray[Any]]) -> Range | None:
    """Lowest and highest finite level in all of `parts`; None without any."""
    found = [
        (values.min(), values.max())
        for part in parts
        if (values := part[np.isfinite(part)] if part.dtype.kind == "f" else part).size
    ]
    if not found:
        return None
    return float(min(low for low, _ in found)), float(max(high for _, high in found))


def common_range(extents: Iterable[Range], *, integers: bool) -> Range | None:
    """One scale for pictures of these extents; None without any.

    From 0 to the next usual white level (12 bits: 4095; floats: 1, 255), so that a picture more
    hardly ever changes it; or the levels that are there, where they fill less than half of that.
    """
    found = list(extents)
    if not found:
        return None
    low, high = min(low for low, _ in found), max(high for _, high in found)
    if integers:
        top = float((1 << int(high).bit_length()) - 1) if high > 0 else 0.0
    else:
        top = next((top for top in _WHITE_LEVELS if high <= top), 0.0)
    if low >= 0 and high - low > top / 2 > 0:
        return 0.0, top
    return (low, high) if low < high else (low, low + 1)


def range_for(image: Image.Image, preparation: Preparation) -> Range:
    """The levels shown black and white: the common ones, or where there are none its own."""
    integers = image.mode != "F"
    common = preparation.integers if integers else preparation.reals
    if common is not None:
        return common
    own = extent([np.asarray(image)])
    return common_range([] if own is None else [own], integers=integers) or (0, 1)


def to_8_bits(image: Image.Image, levels: Range) -> Image.Image:
    """A deep picture in mode L; levels beyond the range are clipped, transparent ones white."""
    tags = getattr(image, "tag_v2", {})
    values, clear = np.asarray(image), image.info.get("transparency")
    levels_HW = scale(values, levels if tags.get(_PHOTOMETRIC) != 0 else levels[::-1])
    if isinstance(clear, int):
        levels_HW[values == clear] = 255
    return Image.fromarray(levels_HW)


def scale(values: NDArray[Any], levels: Range) -> NDArray[np.uint8]:
    """`values` as 0 to 255, in place as far as possible; NaN becomes 0."""
    black, white = levels
    scaled = values.astype(np.float64)
    scaled -= black
    scaled *= 255 / (white - black)
    np.rint(scaled, out=scaled)
    np.nan_to_num(scaled, copy=False)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)


def words(levels: Range) -> str:
    """`0 to 4095`, `-0.25 to 1.5`."""
    return " to ".join(f"{level:.6g}" for level in levels)
