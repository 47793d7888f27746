"""After which convolutions to pool, so that the image never shrinks away."""

from collections.abc import Sequence

from models.layers import convolved, pooled

# On a 2x2 map a padded 3x3 kernel looks at zeros with 5 of its 9 weights wherever it stands, on a
# 3x3 map only in the corners: automatic pooling goes no further than that.
SMALLEST_MAP = 3


def automatic(side: int, kernels: Sequence[int], paddings: Sequence[int]) -> tuple[int, ...]:
    """As many poolings as leave the map at least `SMALLEST_MAP` wide and room for what follows.

    `side` is the image's shorter side, `kernels` and `paddings` have one entry for each
    convolution. The result holds layer numbers from 1. With fewer poolings than convolutions the
    first comes after the first convolution, since the full-size maps are the dear ones, and the
    others follow evenly; for 8 convolutions on 28x28 these are 1, 4, 7. Where not even the
    convolutions alone fit, there is nothing to place and the result is empty.
    """
    for count in range(len(kernels), 0, -1):
        places = _evenly(len(kernels), count)
        if _fits(side, kernels, paddings, places):
            return places
    return ()


def _evenly(layers: int, count: int) -> tuple[int, ...]:
    """`count` numbers of 1..layers, the first of them 1, with gaps that differ by one at most."""
    return tuple(1 + -(-index * layers // count) for index in range(count))


def _fits(
    side: int, kernels: Sequence[int], paddings: Sequence[int], places: tuple[int, ...]
) -> bool:
    for number, (kernel, padding) in enumerate(zip(kernels, paddings, strict=True), start=1):
        side = convolved(side, kernel, padding)
        if number in places:
            side = pooled(side)
            if side < SMALLEST_MAP:
                return False
        if side < 1:
            return False
    return True
