"""Images of the data sets as matplotlib draws them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def as_rgb(image_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (1 or 3, H, W) as (H, W, 3)."""
    rgb_CHW = np.repeat(image_CHW, 3, axis=0) if len(image_CHW) == 1 else image_CHW
    return np.ascontiguousarray(rgb_CHW.transpose(1, 2, 0))
