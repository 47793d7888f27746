"""What a folder's training pictures are like, looked at once to decide how all are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from PIL import Image

from data.errors import DataError
from data.levels import DIM, common_range, declared, extent, is_cut, is_deep, strips
from data.pictures import each, loaded, opened
from data.preparation import Range

SIZES = (28, 32, 48, 64, 96, 128)  # sides in pixels that are chosen from
SMALLEST = 8  # for networks to have something to pool; the largest is a matter of time
MOST_PIXELS = 1 << 26  # of all training images: a little more than Fashion-MNIST's at 32 x 32


class _Look(NamedTuple):
    """integers, reals: the range of a picture of more than 8 bits that declares none.
    brightest: of the upper 8 of 16 bits of a colour, 0 to 255."""

    width: int
    height: int
    integers: Range | None = None
    reals: Range | None = None
    brightest: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """Attributes:
    count: pictures that could be opened.
    shorter_side: median of the shorter sides in pixels; 0 without pictures.
    smallest, largest: (width, height) of the pictures with the fewest and the most pixels.
    integers, reals: see `Preparation`.
    brightest: level in the upper 8 of 16 bits of all colour pictures that have so many; None
        without such.
    """

    count: int
    shorter_side: float
    smallest: tuple[int, int]
    largest: tuple[int, int]
    integers: Range | None
    reals: Range | None
    brightest: int | None


def survey(paths: Sequence[Path]) -> Survey:
    """Pictures of up to 8 bits are opened only, others decoded. Damaged ones are passed over."""
    looks = [look for look in each(_look, paths) if isinstance(look, _Look)]
    by_area = sorted(((look.width, look.height) for look in looks), key=lambda s: s[0] * s[1])
    brightest = [look.brightest for look in looks if look.brightest is not None]
    return Survey(
        count=len(looks),
        shorter_side=median(map(min, by_area)) if by_area else 0,
        smallest=by_area[0] if by_area else (0, 0),
        largest=by_area[-1] if by_area else (0, 0),
        integers=common_range((k.integers for k in looks if k.integers), integers=True),
        reals=common_range((look.reals for look in looks if look.reals), integers=False),
        brightest=max(brightest) if brightest else None,
    )


def choose_size(seen: Survey) -> int:
    """The side in pixels for these pictures: of SIZES, or their own where they are smaller.

    The largest that half of them have, so that most are not enlarged, and that keeps all together
    within MOST_PIXELS (but 32 in any case), so that a study ends in good time.
    """
    affordable = max((MOST_PIXELS / max(seen.count, 1)) ** 0.5, 32)
    most = min(seen.shorter_side or 32, affordable)
    return max((size for size in SIZES if size <= most), default=max(int(most), SMALLEST))


def refuse_dim(seen: Survey, root: Path) -> None:
    """Raises DataError for colours that use a few of 16 bits, of which Pillow reads the upper 8."""
    if seen.brightest is not None and seen.brightest < DIM:
        bits = 8 + seen.brightest.bit_length()
        raise DataError(
            f"the pictures with 16 bits a colour under {root} use {bits} of these only and would "
            "come out nearly black; convert them to 8 bits, or scale them to all 16"
        )


def _look(path: Path) -> _Look:
    with opened(path) as image:
        width, height = image.size
        cut = is_cut(image)
        if not cut and (not is_deep(image) or declared(image) is not None):
            return _Look(width, height)
    with loaded(path, None, "pad") as (image, _):
        if cut:
            return _Look(width, height, brightest=_brightest(image))
        if image.mode == "F":
            return _Look(width, height, reals=extent(image))
        return _Look(width, height, integers=extent(image))


def _brightest(image: Image.Image) -> int:
    """Of all colours, opacity aside."""
    bands = [band for band in image.getbands() if band != "A"]
    return max(
        int(strip.getchannel(band).getextrema()[1])  # type: ignore[arg-type]
        for _, strip in strips(image)
        for band in bands
    )
