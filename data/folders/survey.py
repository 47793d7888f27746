"""How a folder's pictures are prepared: decided by its training pictures, and told.

Sizes and levels are looked at once; what they decide holds for every later picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from PIL import Image

from data.errors import DataError
from data.folders.levels import (
    common_range,
    declared,
    extent,
    is_cut,
    is_deep,
    strips,
    words,
)
from data.folders.pictures import channels_of, each, loaded, opened
from data.folders.preparation import FIRST, Preparation, Range, Reading

SIZES = (28, 32, 48, 64, 96, 128)  # sides in pixels that are chosen from
SMALLEST = 8  # for networks to have something to pool; the largest is a matter of time
LARGEST = 1024
FIRST_SIZE = 32  # of studies of before the size was chosen
MAX_PIXELS = 1 << 26  # of all training images: a little more than Fashion-MNIST's at 32 x 32
DIM = 64  # of 256: colours of 16 bits of which the brightest is darker do not fill them


class _Look(NamedTuple):
    """integers, reals: the range of a picture of more than 8 bits that declares none.
    brightest: of the upper 8 of 16 bits of a colour, 0 to 255."""

    size: tuple[int, int]
    integers: Range | None = None
    reals: Range | None = None
    brightest: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """image_shape: C, H, W. sizes: (width, height) of the pictures, by area; () if not needed."""

    image_shape: tuple[int, int, int]
    preparation: Preparation
    sizes: tuple[tuple[int, int], ...] = ()

    def notes(self, size: int | None) -> Iterator[str]:
        """What was done to the pictures, a sentence each. `size`: that was asked for, if any."""
        if not self.sizes:
            return
        channels, height, width = self.image_shape
        smallest, largest = self.sizes[0], self.sizes[-1]
        sizes = " to ".join(dict.fromkeys(f"{w}x{h}" for w, h in (smallest, largest)))
        kind = "grey" if channels == 1 else "RGB"
        if (width, height) == smallest == largest:
            yield f"pictures of {sizes} as they are, {kind}"
        else:
            chosen = "" if size is not None else "; --image-size N changes the size"
            yield (
                f"pictures of {sizes} scaled to {width}x{height} {kind}, proportions kept, the "
                f"rest filled with the colour of each picture's border{chosen}"
            )
        for levels, which in (
            (self.preparation.integers, "of more than 8 bits"),
            (self.preparation.reals, "in floating-point numbers"),
        ):
            if levels is not None:
                yield f"pictures {which}: levels {words(levels)}, found in them, made 0 to 255"


def prepare(root: Path, files: Sequence[str], reading: Reading) -> Prepared:
    """How the training pictures `files` under `root`, and all later ones, are prepared.

    Grey where all of them are; damaged ones are passed over. Those of up to 8 bits are opened
    only, others decoded.
    """
    size = reading.image_size
    if size is not None and not 1 <= size <= LARGEST:
        raise DataError(f"image size {size} is not between 1 and {LARGEST} pixels")
    paths = [root / file for file in files]
    if reading.version == 1:
        side = size or FIRST_SIZE
        return Prepared(image_shape=(channels_of(paths), side, side), preparation=FIRST)
    looks = [look for look in each(_look, paths) if isinstance(look, _Look)]
    _refuse_dim(looks, root)
    side = size or choose_size([look.size for look in looks])
    return Prepared(
        image_shape=(channels_of(paths, side), side, side),
        preparation=Preparation(
            fit="pad",
            integers=common_range((k.integers for k in looks if k.integers), integers=True),
            reals=common_range((look.reals for look in looks if look.reals), integers=False),
        ),
        sizes=tuple(sorted((look.size for look in looks), key=lambda size: size[0] * size[1])),
    )


def choose_size(sizes: Sequence[tuple[int, int]]) -> int:
    """The side in pixels for pictures of these sizes: of SIZES, or their own where smaller.

    The largest that half of them have, so that most are not enlarged, and that keeps all together
    within MAX_PIXELS (but 32 in any case), so that a study ends in good time.
    """
    affordable = max((MAX_PIXELS / max(len(sizes), 1)) ** 0.5, 32)
    most = min(median(map(min, sizes)) if sizes else 32, affordable)
    return max((size for size in SIZES if size <= most), default=max(int(most), SMALLEST))


def _refuse_dim(looks: Sequence[_Look], root: Path) -> None:
    """Raises DataError for colours that use a few of 16 bits, of which Pillow reads the upper 8."""
    found = [look.brightest for look in looks if look.brightest is not None]
    if found and max(found) < DIM:
        raise DataError(
            f"the pictures with 16 bits a colour under {root} use {8 + max(found).bit_length()} of "
            "these only and would come out nearly black; convert them to 8 bits, or scale them to "
            "all 16"
        )


def _look(path: Path) -> _Look:
    with opened(path) as image:
        size, cut = image.size, is_cut(image)
        if not cut and (not is_deep(image) or declared(image) is not None):
            return _Look(size)
    with loaded(path, None, "pad") as (image, _):
        if cut:
            return _Look(size, brightest=_brightest(image))
        if image.mode == "F":
            return _Look(size, reals=extent(image))
        return _Look(size, integers=extent(image))


def _brightest(image: Image.Image) -> int:
    """Of all colours, opacity aside."""
    bands = [band for band in image.getbands() if band != "A"]
    return max(
        int(strip.getchannel(band).getextrema()[1])  # type: ignore[arg-type]
        for _, strip in strips(image)
        for band in bands
    )
