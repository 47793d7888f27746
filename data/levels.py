"""Pictures of more than 8 bits a sample, brought to 8 with one scale for all of a data set.

A file of 16 bits may hold 12 of a camera, one of floats anything: taken at its word, or cut to 0
to 255 as Pillow does, it comes out black, white or crushed. So the levels that are there decide.
PNG's sBIT chunk is of no use: samples are to fill all bits whatever it says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.preparation import Preparation, Range

STRIP_PIXELS = 1 << 20  # looked at at a time: a float copy of a whole scan takes gigabytes
DIM = 64  # of 256: colours of 16 bits of which the brightest is darker do not fill them
_BITS, _PHOTOMETRIC, _MINIMUM, _MAXIMUM, _S_MINIMUM, _S_MAXIMUM = 258, 262, 280, 281, 340, 341
_TOPS = (1.0, 255.0, 65535.0)  # usual white levels of floats


class Scale(NamedTuple):
    """black, white: levels shown so. clear: level that stands for nothing at all, shown white.
    cut: as Pillow does it, by leaving fractions away."""

    black: float
    white: float
    clear: int | None = None
    cut: bool = False


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
    low = _first(_tag(image, _S_MINIMUM), _tag(image, _MINIMUM)) or 0
    high = _first(_tag(image, _S_MAXIMUM), _tag(image, _MAXIMUM))
    # All that fits into the bits is what some programs write without having looked.
    if high is not None and -math.inf < low < high < min(
        math.inf, 2 ** (_tag(image, _BITS) or 16) - 1
    ):
        return low, high
    found = [(values.min(), values.max()) for values in _finite(image) if values.size]
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
        top = next((top for top in _TOPS if high <= top), 0.0)
    if low >= 0 and high - low > top / 2 > 0:
        return 0.0, top
    return (low, high) if low < high else (low, low + 1)


def range_for(image: Image.Image, preparation: Preparation) -> tuple[Range, bool]:
    """(the levels shown black and white, whether they are the picture's own and not common)."""
    fixed = declared(image) if preparation.heeds_files else None
    integers = image.mode != "F"
    common = preparation.integers if integers else preparation.reals
    if fixed is not None or common is not None:
        return fixed or common or (0, 1), False
    own = extent(image)
    return common_range([] if own is None else [own], integers=integers) or (0, 1), True


def scale_of(image: Image.Image, preparation: Preparation) -> Scale:
    """How the levels of a picture of more than 8 bits are brought to 8."""
    if not preparation.heeds_files and image.mode == "F":
        return Scale(0, 255, cut=True)
    (black, white), _ = range_for(image, preparation)
    if not preparation.heeds_files:
        return Scale(black, white)
    if _tag(image, _PHOTOMETRIC) == 0:  # white is zero
        black, white = white, black
    clear = image.info.get("transparency")
    return Scale(black, white, clear=clear if isinstance(clear, int) else None)


def to_8_bits(image: Image.Image, scale: Scale) -> Image.Image:
    """The picture, or a part of it, in mode L; levels beyond black and white are cut off."""
    if scale.cut:
        return image.convert("L")
    levels_HW = np.empty((image.height, image.width), dtype=np.uint8)
    for top, strip in strips(image):
        values = np.asarray(strip).astype(np.float64)
        scaled = np.rint((values - scale.black) * (255 / (scale.white - scale.black)))
        if scale.clear is not None:
            scaled[values == scale.clear] = 255
        levels_HW[top : top + strip.height] = np.nan_to_num(scaled).clip(0, 255)
    return Image.fromarray(levels_HW)


def words(levels: Range) -> str:
    """`0 to 4095`, `-0.25 to 1.5`."""
    return " to ".join(f"{level:.6g}" for level in levels)


def _finite(image: Image.Image) -> Iterator[NDArray[Any]]:
    for _, strip in strips(image):
        values = np.asarray(strip)
        yield values[np.isfinite(values)] if image.mode == "F" else values


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _tag(image: Image.Image, number: int) -> float | None:
    """A TIFF tag's number, the first of several; None where there is no such."""
    tags = getattr(image, "tag_v2", None)
    value = None if tags is None else tags.get(number)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int | float) else None
