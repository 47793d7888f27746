"""How a folder's pictures are prepared: decided by its training pictures, and told.

Sizes and levels are looked at once; what they decide holds for every later picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from data.errors import DataError
from data.folders.levels import common_range, extent, is_deep, words
from data.folders.pictures import channels_of, each, loaded, opened
from data.folders.preparation import FIRST, Preparation, Range, Reading

SIZES = (28, 32, 48, 64, 96, 128)  # sides in pixels that are chosen from
SMALLEST = 8  # for networks to have something to pool; the largest is a matter of time
LARGEST = 1024
FIRST_SIZE = 32  # of studies of before the size was chosen
MAX_PIXELS = 1 << 26  # of all training images: a little more than Fashion-MNIST's at 32 x 32


class _Look(NamedTuple):
    """levels: of a picture of more than 8 bits; integers: whether they are."""

    size: tuple[int, int]
    levels: Range | None = None
    integers: bool = True


def prepare(
    root: Path, files: Sequence[str], reading: Reading
) -> tuple[tuple[int, int, int], Preparation, list[str]]:
    """How the training pictures `files` under `root`, and all later ones, are prepared.

    Grey where all of them are; damaged ones are passed over. Those of up to 8 bits are opened
    only, others decoded.

    Returns:
        (C, H, W), the preparation, and what was decided, a sentence each.
    """
    size = reading.image_size
    if size is not None and not 1 <= size <= LARGEST:
        raise DataError(f"image size {size} is not between 1 and {LARGEST} pixels")
    paths = [root / file for file in files]
    if reading.version == 1:
        side = size or FIRST_SIZE
        return (channels_of(paths), side, side), FIRST, []
    looks = [look for look in each(_look, paths) if isinstance(look, _Look)]
    sizes = sorted((look.size for look in looks), key=lambda size: size[0] * size[1])
    side = size or choose_size(sizes)
    integers, reals = (
        common_range((k.levels for k in looks if k.levels and k.integers == kind), integers=kind)
        for kind in (True, False)
    )
    channels = channels_of(paths, side)
    kind = "grey" if channels == 1 else "RGB"
    between = " to ".join(dict.fromkeys(f"{w}x{h}" for w, h in (sizes[:1] + sizes[-1:])))
    if set(sizes) == {(side, side)}:
        notes = [f"pictures of {between} as they are, {kind}"]
    else:
        chosen = "" if size is not None else "; --image-size N changes the size"
        notes = [
            f"pictures of {between} scaled to {side}x{side} {kind}, proportions kept, the rest "
            f"filled with the colour of each picture's border{chosen}"
        ]
    for levels in (integers, reals):
        if levels is not None:
            notes.append(f"pictures of more than 8 bits: levels {words(levels)} made 0 to 255")
    preparation = Preparation(fit="pad", integers=integers, reals=reals)
    return (channels, side, side), preparation, notes if sizes else []


def choose_size(sizes: Sequence[tuple[int, int]]) -> int:
    """The side in pixels for pictures of these sizes: of SIZES, or their own where smaller.

    The largest that half of them have, so that most are not enlarged, and that keeps all together
    within MAX_PIXELS (but 32 in any case), so that a study ends in good time.
    """
    affordable = max((MAX_PIXELS / max(len(sizes), 1)) ** 0.5, 32)
    most = min(median(map(min, sizes)) if sizes else 32, affordable)
    return max((size for size in SIZES if size <= most), default=max(int(most), SMALLEST))


def _look(path: Path) -> _Look:
    with opened(path) as image:
        if not is_deep(image):
            return _Look(image.size)
    with loaded(path, None, "pad") as (image, _):
        return _Look(image.size, extent([np.asarray(image)]), image.mode != "F")
