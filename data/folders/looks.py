"""How a folder's training pictures are prepared: their sizes and levels are examined once."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from data.errors import DataError
from data.folders import pictures
from data.folders.preparation import FIRST, Preparation, Range, Reading, common_range, extent, words

SIZES = (28, 32, 48, 64, 96, 128)  # sides in pixels to choose from
SMALLEST = 8  # so that networks have something to pool; the largest only limits the time taken
LARGEST = 1024
FIRST_SIZE = 32  # of studies from before the size was chosen
HALF = 128  # of the 8-bit levels: those below it are dark
MAX_PIXELS = 1 << 26  # of all training images: a little more than Fashion-MNIST's at 32 x 32


def prepare(
    paths: Sequence[Path], reading: Reading
) -> tuple[tuple[int, int, int], Preparation, list[str]]:
    """(C, H, W) and preparation of these and all later pictures, and sentences that describe it.

    Grey if all are grey; damaged ones are skipped. Those of up to 8 bits are only opened.
    """
    size = reading.image_size
    if size is not None and not 1 <= size <= LARGEST:
        raise DataError(f"image size {size} is not between 1 and {LARGEST} pixels")
    if reading.version == 1:
        side = size or FIRST_SIZE
        return (pictures.channels_of(paths, side), side, side), FIRST, []
    looks = [look for look in pictures.each(_look, paths) if not isinstance(look, DataError)]
    sizes = sorted((look.size for look in looks), key=lambda size: size[0] * size[1])
    side = size or choose_size(sizes)
    levels = common_range(
        (look.levels for look in looks if look.levels is not None),
        integers=all(look.is_whole for look in looks),
    )
    in_colour = [look.highest for look in looks if look.highest is not None]
    if in_colour and max(in_colour) < HALF and reading.version > 2:
        raise DataError(
            f"{len(in_colour)} pictures have 16 bits per colour but use only the lower "
            f"{8 + max(in_colour).bit_length()} of them, so they would come out dark; save them "
            "with 8 bits, or scaled to all 16"
        )
    channels = pictures.channels_of(paths, side)
    between = " to ".join(dict.fromkeys(f"{w}x{h}" for w, h in (sizes[:1] + sizes[-1:])))
    kind = "grey" if channels == 1 else "RGB"
    notes = [f"pictures of {between} as they are, {kind}"]
    if set(sizes) != {(side, side)}:
        chosen = "" if size is not None else "; --image-size N changes the size"
        notes = [
            f"pictures of {between} scaled to {side}x{side} {kind}, proportions kept, the rest "
            f"filled with the colour of each picture's border{chosen}"
        ]
    if levels is not None:
        notes.append(f"pictures of more than 8 bits: {words(levels)}")
    if in_colour:
        notes.append(f"pictures of {pictures.UPPER_BITS}")
    return (channels, side, side), Preparation(fit="pad", levels=levels), notes


class _Look(NamedTuple):
    """What is examined of a picture; the last three only for more than 8 bits."""

    size: tuple[int, int]
    levels: Range | None = None
    is_whole: bool = True
    highest: int | None = None  # of its colours, as 8 bits


def _look(_index: int, path: Path) -> _Look:
    with pictures.opened(path) as image:
        size, mode = image.size, image.mode
        deep, in_colour = pictures.is_deep(image), pictures.is_deep_colour(image)
    if not deep and not in_colour:
        return _Look(size)
    with pictures.decoded(path, (1, 1), "pad") as image:
        if deep:
            return _Look(size, extent(pictures.samples(image)), mode != "F")
        return _Look(size, highest=int(np.asarray(image.convert("RGB")).max()))


def choose_size(sizes: Sequence[tuple[int, int]]) -> int:
    """The side in pixels for pictures of these sizes: one of SIZES, or their own if smaller.

    The largest that half of them have, so that most are not enlarged, and that keeps all together
    within MAX_PIXELS (but 32 in any case), so that a study ends in reasonable time.
    """
    affordable = max((MAX_PIXELS / max(len(sizes), 1)) ** 0.5, 32)
    most = min(median(map(min, sizes)) if sizes else 32, affordable)
    return max((size for size in SIZES if size <= most), default=max(int(most), SMALLEST))
