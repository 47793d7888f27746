"""Where automatic pooling goes, and that no depth makes the image shrink away."""

from itertools import pairwise

import pytest

from models import ArchitectureError, ConvNetConfig, plan
from models.layers import Convolution, Pool
from models.pooling import SMALLEST_MAP, automatic


def same(side: int, depth: int) -> tuple[int, ...]:
    return automatic(side, (3,) * depth, (1,) * depth)


@pytest.mark.parametrize(
    ("side", "depth", "places"),
    [
        (28, 1, (1,)),
        (28, 2, (1, 2)),
        (28, 3, (1, 2, 3)),
        (28, 4, (1, 3, 4)),
        (28, 8, (1, 4, 7)),  # report B's own choice: after the first, then after every third
        (28, 16, (1, 7, 12)),
        (32, 6, (1, 3, 5)),
        (224, 6, (1, 2, 3, 4, 5, 6)),
        (8, 3, (1,)),
        (5, 3, ()),
        (1, 3, ()),
    ],
)
def test_places_of_padded_convolutions(side: int, depth: int, places: tuple[int, ...]) -> None:
    assert same(side, depth) == places


@pytest.mark.parametrize("side", [1, 2, 3, 6, 8, 28, 32, 64])
@pytest.mark.parametrize("depth", range(1, 25))
def test_as_many_as_fit_and_evenly(side: int, depth: int) -> None:
    places = same(side, depth)
    left = side // 2 ** len(places)
    assert left >= min(SMALLEST_MAP, side)
    assert len(places) == depth or left // 2 < SMALLEST_MAP, "room for one more"
    assert places[:1] in ((), (1,))
    gaps = [after - before for before, after in pairwise((*places, depth + 1))]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (8, 8), (28, 28), (32, 32), (28, 9)])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_no_depth_fails(size: tuple[int, int], residual: bool, kernel: int) -> None:
    for depth in range(1, 25):
        config = ConvNetConfig(channels=(4,) * depth, kernel_sizes=(kernel,), residual=residual)
        plan(config, (3, *size), 10)


@pytest.mark.parametrize("kernel", [2, 3, 5])
@pytest.mark.parametrize("side", [1, 2, 8, 28, 32])
def test_without_padding_it_fits_whenever_the_convolutions_alone_do(side: int, kernel: int) -> None:
    for depth in range(1, 25):
        config = ConvNetConfig(channels=(4,) * depth, kernel_sizes=(kernel,), padding=0)
        if side - depth * (kernel - 1) >= 1:
            layers = plan(config, (1, side, side), 10)
            assert all(min(layer.output) >= 1 for layer in layers)
            pools = [layer for layer in layers if isinstance(layer, Pool)]
            assert all(min(pool.output[1:]) >= SMALLEST_MAP for pool in pools)
            assert sum(isinstance(layer, Convolution) for layer in layers) == depth
        else:
            with pytest.raises(ArchitectureError, match="does not fit its input"):
                plan(config, (1, side, side), 10)


def test_report_a_is_what_automatic_pooling_finds_too() -> None:
    assert automatic(28, (3, 3), (0, 0)) == (1, 2)
