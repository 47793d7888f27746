"""Which kernels of the first layer do nothing, say little or say the same: by stated rules.

O kernels of shape (C_in, height, width).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEAD = 0.01  # of the layer's median range of outputs
UNIFORM = 0.2  # of the layer's median norm
TWIN = 0.95  # absolute cosine


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelReport:
    """Kernels by number, from 0.

    Attributes:
        dead: whose outputs hardly vary over the images.
        uniform: whose weights hardly differ from each other within an input channel.
        twins: (later, earlier, cosine) of pairs that are nearly the same or each other's negative,
            each later one with the earlier one that is most alike. Dead and uniform kernels, whose
            direction means little, are left out.
        images: training images that `dead` was decided on.
    """

    dead: tuple[int, ...]
    uniform: tuple[int, ...]
    twins: tuple[tuple[int, int, float], ...]
    images: int

    @property
    def marks(self) -> dict[int, str]:
        """A kernel's number, and its mark: `dead`, `uniform`, `≈ 3`, `≈ −3`."""
        twins = {
            later: f"≈ {'−' if cosine < 0 else ''}{earlier}"
            for later, earlier, cosine in self.twins
        }
        return {
            **twins,
            **dict.fromkeys(self.uniform, "uniform"),
            **dict.fromkeys(self.dead, "dead"),
        }

    def in_words(self) -> str:
        """What was found, and the rules."""
        found = ", ".join(
            f"{what}: {', '.join(map(str, numbers)) if numbers else 'none'}"
            for what, numbers in (
                ("dead", self.dead),
                ("near-uniform", self.uniform),
                ("near-duplicates", [f"{a} of {b} ({c:.2f})" for a, b, c in self.twins]),
            )
        )
        return (
            f"Counted from 0. {found[0].upper()}{found[1:]}. Dead: over {self.images} training "
            f"images the unit's output varies by less than {100 * DEAD:g} % of the layer's median. "
            "Near-uniform: the norm of the weights less their mean (of each input channel) is "
            f"below {UNIFORM:g} of the layer's median norm. Near-duplicate: |cosine| with an "
            f"earlier kernel above {TWIN:g}, the dead and the uniform left out."
        )


def inspect_kernels(
    kernels: NDArray[np.float32], ranges_O: NDArray[np.float32], images: int
) -> KernelReport:
    """Apply the rules.

    Args:
        kernels: (O, C_in, height, width). Of 1 x 1 none is called uniform.
        ranges_O: highest minus lowest output of each unit over the images.
    """
    flat = kernels.reshape(len(kernels), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    spread = kernels.astype(np.float64) - kernels.mean(axis=(2, 3), keepdims=True)
    spreads = np.linalg.norm(spread.reshape(flat.shape), axis=1)
    dead = ranges_O <= DEAD * np.median(ranges_O)
    uniform = spreads < UNIFORM * np.median(norms)
    if kernels.shape[2:] == (1, 1):
        uniform[:] = False
    plain = dead | uniform | (norms == 0)
    directions = flat / np.maximum(norms, np.finfo(np.float64).tiny)[:, None]
    cosines = directions @ directions.T
    twins = []
    for later in range(len(kernels)):
        earlier = [one for one in range(later) if not plain[one]]
        if plain[later] or not earlier:
            continue
        likest = max(earlier, key=lambda one: abs(cosines[later, one]))
        if abs(cosines[later, likest]) > TWIN:
            twins.append((later, likest, float(cosines[later, likest])))
    return KernelReport(
        dead=tuple(map(int, np.flatnonzero(dead))),
        uniform=tuple(map(int, np.flatnonzero(uniform))),
        twins=tuple(twins),
        images=images,
    )
