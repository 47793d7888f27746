"""Pictures of more than 8 bits a sample, brought to 8 with one scale for all of a data set.

A file of 16 bits may hold 12 of a camera, one of floats anything: taken at its word, or clipped to
0 to 255 as Pillow does, it comes out black, white or crushed. So the levels that are there decide.
PNG's sBIT chunk is of no use: samples are to fill all bits whatever it says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.folders.preparation import Preparation, Range

STRIP_PIXELS = 1 << 20  # converted at a time: a float copy of a whole scan takes gigabytes
_BITS, _PHOTOMETRIC, _MINIMUM, _MAXIMUM, _S_MINIMUM, _S_MAXIMUM = 258, 262, 280, 281, 340, 341
_WHITE_LEVELS = (1.0, 255.0, 65535.0)  # usual ones of floats


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow has its samples in more than 8 bits: grey pictures alone."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def is_cut(image: Image.Image) -> bool:
    """Whether Pillow, asked for the pixels, will give the upper 8 of 16 bits: of colours.

    Of a picture that is not loaded yet.
    """
    if image.format not in ("PNG", "TIFF") or is_deep(image):
        return False
    return any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]


def strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """(top row, part of the picture of full width), from above; a multiple of so many rows each."""
    rows = max(STRIP_PIXELS // image.width // multiple, 1) * multiple
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def declared(image: Image.Image) -> Range | None:
    """Black and white as the file's format fixes them for it; None where it does not."""
    bits = _tag(image, _BITS)
    if bits is not None and image.mode.startswith("I;16") and bits < 16:
        return 0, 2**bits - 1
    return None


def extent(image: Image.Image) -> Range | None:
    """Lowest and highest level: as the file names them, else found; None without finite ones."""
    low = _tag(image, _S_MINIMUM, _MINIMUM) or 0
    high = _tag(image, _S_MAXIMUM, _MAXIMUM)
    # All that fits into the bits is what some programs write without having looked.
    most = 2 ** (_tag(image, _BITS) or 16) - 1
    if high is not None and -math.inf < low < high < min(math.inf, most):
        return low, high
    return extent_of(np.asarray(strip) for _, strip in strips(image))


def extent_of(parts: Iterable[NDArray[Any]]) -> Range | None:
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


def range_for(image: Image.Image, preparation: Preparation) -> tuple[Range, bool]:
    """(the levels shown black and white, whether they are the picture's own and not common)."""
    integers = image.mode != "F"
    common = declared(image) or (preparation.integers if integers else preparation.reals)
    if common is not None:
        return common, False
    own = extent(image)
    return common_range([] if own is None else [own], integers=integers) or (0, 1), True


def to_8_bits(image: Image.Image, whole: Image.Image, levels: Range) -> Image.Image:
    """`image`, all or a part of `whole`, in mode L; levels beyond the range are clipped."""
    black, white = levels if _tag(whole, _PHOTOMETRIC) != 0 else levels[::-1]  # 0: white is zero
    clear = whole.info.get("transparency")  # the level that stands for nothing at all, shown white
    levels_HW = np.empty((image.height, image.width), dtype=np.uint8)
    for top, strip in strips(image):
        values = np.asarray(strip)
        scaled = scale(values, (black, white))
        if isinstance(clear, int):
            scaled[values == clear] = 255
        levels_HW[top : top + strip.height] = scaled
    return Image.fromarray(levels_HW)


def scale(values: NDArray[Any], levels: Range) -> NDArray[np.uint8]:
    """`values` as 0 to 255; NaN becomes 0."""
    black, white = levels
    scaled = np.rint((values.astype(np.float64) - black) * (255 / (white - black)))
    eight_bits: NDArray[np.uint8] = np.nan_to_num(scaled).clip(0, 255).astype(np.uint8)
    return eight_bits


def words(levels: Range) -> str:
    """`0 to 4095`, `-0.25 to 1.5`."""
    return " to ".join(f"{level:.6g}" for level in levels)


def _tag(image: Image.Image, *numbers: int) -> float | None:
    """The number in the first of these TIFF tags that is there, the first of several; or None."""
    tags = getattr(image, "tag_v2", {})
    for number in numbers:
        value = tags.get(number)
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, int | float):
            return value
    return None
