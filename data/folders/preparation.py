"""How picture files become images of one shape: fixed by the training pictures, used for all.

Loads no torch and no Pillow.
"""

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
    """Decided once for all pictures of a data set, and for those classified later.

    fit: "pad" scales the whole picture into the image and fills the rest with the colour of its
    border, since what tells classes apart may lie at an edge, which cropping would lose; "stretch"
    changes its proportions. levels: shown black and white of pictures of more than 8 bits; None:
    none was such in training.
    """

    fit: Fit = "stretch"
    levels: Range | None = None

    def __post_init__(self) -> None:
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be one of {get_args(Fit)}, but is {self.fit!r}")
        if self.levels is not None and not (
            all(map(math.isfinite, self.levels)) and self.levels[0] < self.levels[1]
        ):
            raise ValueError(f"expected two rising levels, but got {self.levels!r}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, for `from_dict`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Preparation:
        """Raises ValueError, TypeError or KeyError for what `to_dict` never gives."""
        fit = stored["fit"]  # earlier versions kept levels of integers and of floats apart
        found = [stored[name] for name in ("levels", "integers", "reals") if stored.get(name)]
        if not found:
            return cls(fit=fit)
        black, white = map(float, found[0])
        return cls(fit=fit, levels=(black, white))


# What every picture went through before the choice was there; networks of then still expect it.
FIRST = Preparation(fit="stretch", levels=(0, 65535))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a study fixes of how a data set is read, so that each of its workers reads it alike.

    image_size: side in pixels of a folder's images; None: chosen from the pictures.
    mirror_changes_class: overrides what the data set says of itself; None: it is believed.
    version: 1, of studies made before proportions were kept: pictures are stretched, to 32 pixels
    if not told otherwise, and `val` is no split.
    """

    image_size: int | None = None
    mirror_changes_class: bool | None = None
    version: int = 2
