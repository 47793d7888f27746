"""Numbers of more than 8 bits, brought to 8 with one scale for all of a data set.

A file of 16 bits may hold 12 of a camera, one of floats anything: taken at its word, or clipped to
0 to 255 as Pillow does, it comes out black, white or crushed. So the levels that are there decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.folders.preparation import Range

_WHITE_LEVELS = (1.0, 255.0, 65535.0)  # usual ones of floats


def extent(values: NDArray[Any]) -> Range:
    """Lowest and highest finite level; (0, 0) without any."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


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
    """`levels 0 to 4095 made 0 to 255`."""
    return f"levels {levels[0]:.6g} to {levels[1]:.6g} made 0 to 255"
