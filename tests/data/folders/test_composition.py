"""What training images have in common: found where it is there, and not where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data.folders.composition import Composition, find_figure, measure

Images = NDArray[np.uint8]


def blobs(
    count: int,
    *,
    side: int = 28,
    size: int = 20,
    shift: int = 0,
    level: tuple[int, int] = (255, 255),
) -> Images:
    """Boxes of `size` x a random width, centred but for up to `shift` pixels, on black."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, 1, side, side), dtype=np.uint8)
    for image in images[:, 0]:
        width = int(rng.integers(2, size // 2 + 1)) * 2
        top, left = (side - size) // 2, (side - width) // 2
        top, left = top + rng.integers(-shift, shift + 1), left + rng.integers(-shift, shift + 1)
        image[top : top + size, left : left + width] = rng.integers(*level, endpoint=True)
    return images


def test_digits_in_a_box_are_recognised() -> None:
    found = measure(blobs(100))
    assert found is not None
    assert (found.on_dark, found.ground, found.level) == (True, 0, 1)
    assert found.size == pytest.approx(20 / 28)
    assert found.centring in ("mass", "box")  # of a box they coincide


def test_the_negative_differs_by_its_shades_alone() -> None:
    plain, negative = measure(blobs(100)), measure(255 - blobs(100))
    assert plain is not None
    assert negative is not None
    assert not negative.on_dark
    assert (negative.ground, negative.level) == (1, 0)
    assert (negative.size, negative.centring) == (plain.size, plain.centring)


def test_what_varies_is_not_taken_for_a_rule() -> None:
    wandering = measure(blobs(100, size=12, shift=8))
    assert wandering is not None
    assert (wandering.size, wandering.centring) == (None, None)
    shades = measure(blobs(100, level=(60, 255)))
    assert shades is not None
    assert shades.level is None


@pytest.mark.parametrize("centring", ["mass", "box"])
def test_the_kind_of_centring_is_told(centring: str) -> None:
    """Heavy above and light below, 16 high: the mass lies above the middle of the box."""
    images = np.zeros((50, 1, 28, 28), dtype=np.uint8)
    top = 6 if centring == "box" else 9
    images[:, :, top : top + 6, 8:20] = 255
    images[:, :, top + 6 : top + 16, 13:15] = 255
    found = measure(images)
    assert found is not None
    assert found.centring == centring


@pytest.mark.parametrize(
    "images",
    [
        np.random.default_rng(0).integers(0, 256, (100, 1, 28, 28), dtype=np.uint8),
        np.zeros((20, 1, 28, 28), dtype=np.uint8),
        np.repeat(blobs(50), 3, axis=1),  # in colour: natural, whatever it shows
        np.concatenate([blobs(50), 255 - blobs(50)]),
    ],
    ids=["noise", "blank", "colour", "both polarities"],
)
def test_no_figure_on_a_plain_ground(images: Images) -> None:
    assert measure(images) is None


def test_single_images() -> None:
    for shape in ((1, 1), (1, 40), (40, 1), (2, 2), (28, 28)):
        assert find_figure(np.full(shape, 0.5, np.float32)) is None
    image = np.zeros((28, 28), np.float32)
    image[10:14, 3:9] = 1
    figure = find_figure(image)
    assert figure is not None
    assert (figure.top, figure.left, figure.height, figure.width) == (10, 3, 4, 6)
    assert (figure.mass_y, figure.mass_x) == pytest.approx((12, 6))
    assert figure.on_dark


def test_it_survives_json() -> None:
    found = measure(blobs(30))
    assert found is not None
    stored: dict[str, Any] = found.to_dict()
    assert Composition(**stored) == found
