"""How picture files become images of one shape: fixed by the training pictures, used for all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Fit = Literal["pad", "stretch"]
Range = tuple[float, float]  # levels shown black and white


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """What was decided once for all pictures of a data set, and for those predicted later.

    Attributes:
        fit: "pad" scales the whole picture into the image and fills the rest with the colour of
            its border, since what tells classes apart may lie at an edge, which cropping would
            lose; "stretch" lets its proportions give way.
        integers, reals: the levels shown black and white of pictures of more than 8 bits, in whole
            numbers and in floating-point ones; None: no training picture was such.
        heeds_files: use what a file declares itself (12 bits a sample, white is zero).
    """

    fit: Fit = "stretch"
    integers: Range | None = None
    reals: Range | None = None
    heeds_files: bool = True

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be one of {get_args(Fit)}, but is {self.fit!r}")
        for name in ("integers", "reals"):
            levels = getattr(self, name)
            if levels is not None and not (
                len(levels) == 2 and all(map(math.isfinite, levels)) and levels[0] < levels[1]
            ):
                raise ValueError(f"{name} must be two rising levels, but is {levels!r}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, for `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Preparation:
        """Raises ValueError, TypeError, KeyError for what `to_dict` cannot have made."""
        return cls(
            fit=stored["fit"],
            integers=_range(stored["integers"]),
            reals=_range(stored["reals"]),
            heeds_files=bool(stored["heeds_files"]),
        )


def _range(stored: Any) -> Range | None:
    if stored is None:
        return None
    try:
        black, white = map(float, stored)
    except OverflowError as error:
        raise ValueError("levels are too large") from error
    return black, white


# What every picture went through before the choice was there; networks of then still expect it.
FIRST = Preparation(fit="stretch", integers=(0, 65535), reals=(0, 255), heeds_files=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a study fixes of how a data set is read, so that each of its workers reads it alike.

    Attributes:
        image_size: side in pixels of a folder's images; None: chosen from the pictures.
        mirror_changes_class: overrides what the data set says of itself; None: it is believed.
        version: 1, of studies made before proportions were kept: pictures are stretched, to 32
            pixels if not told otherwise, `val` is no split, names of classes are taken as they
            are.
    """

    image_size: int | None = None
    mirror_changes_class: bool | None = None
    version: int = 2
