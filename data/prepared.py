"""How a folder's pictures are prepared: decided by its training pictures, and said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError
from data.levels import words
from data.pictures import channels_of
from data.preparation import FIRST, Preparation, Reading
from data.survey import Survey, choose_size, refuse_dim, survey

FIRST_SIZE = 32  # of studies of before the size was chosen
LARGEST_SIZE = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """image_shape: C, H, W. seen: None where the pictures did not have to be looked at."""

    image_shape: tuple[int, int, int]
    preparation: Preparation
    seen: Survey | None

    def notes(self, size: int | None) -> Iterator[str]:
        """What was done to the pictures, a sentence each. `size`: that was asked for, if any."""
        channels, height, width = self.image_shape
        seen = self.seen
        if seen is None or not seen.count:
            return
        sizes = " to ".join(dict.fromkeys(f"{w}x{h}" for w, h in (seen.smallest, seen.largest)))
        kind = "grey" if channels == 1 else "RGB"
        if (width, height) == seen.smallest == seen.largest:
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

    Grey where all of them are; other pictures are not asked.
    """
    size = reading.image_size
    if size is not None and not 1 <= size <= LARGEST_SIZE:
        raise DataError(f"image size {size} is not between 1 and {LARGEST_SIZE} pixels")
    paths = [root / file for file in files]
    if reading.version == 1:
        side = size or FIRST_SIZE
        return Prepared(image_shape=(channels_of(paths), side, side), preparation=FIRST, seen=None)
    seen = survey(paths)
    refuse_dim(seen, root)
    side = size or choose_size(seen)
    return Prepared(
        image_shape=(channels_of(paths, side), side, side),
        preparation=Preparation(fit="pad", integers=seen.integers, reals=seen.reals),
        seen=seen,
    )
