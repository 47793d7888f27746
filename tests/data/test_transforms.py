"""Against torchvision's functions, one image at a time; images are not square on purpose."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from data.augment import Draws, transform

HEIGHT, WIDTH = 20, 26


def batch(count: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, HEIGHT, WIDTH, generator=generator)


@pytest.fixture(params=[1, 3], ids=["grey", "rgb"], name="images_NCHW")
def images_of_either_kind(request: pytest.FixtureRequest) -> Tensor:
    return batch(6, request.param)


def affine(image_CHW: Tensor, degrees: float, right: int, down: int, scale: float) -> Tensor:
    return reference.affine(
        image_CHW,
        angle=degrees,
        translate=[right, down],
        scale=scale,
        shear=[0.0],
        interpolation=InterpolationMode.BILINEAR,
    )


def test_no_draws_change_nothing(images_NCHW: Tensor) -> None:
    assert transform(images_NCHW, Draws()) is images_NCHW


FLIPS = [True, False, True, False, True, True]
SHIFTS = [(0, 0), (3, 0), (0, -2), (-4, 5), (2, 2), (-30, 30)]


def test_flip_and_shift_equal_hflip_and_a_crop_after_padding_exactly(images_NCHW: Tensor) -> None:
    draws = Draws(flip_N=torch.tensor(FLIPS), shift_N2=torch.tensor(SHIFTS))
    result = transform(images_NCHW, draws)
    for image, flip, (right, down), varied in zip(images_NCHW, FLIPS, SHIFTS, result, strict=True):
        flipped = reference.hflip(image) if flip else image
        padded = reference.pad(flipped, 30)
        assert torch.equal(varied, reference.crop(padded, 30 - down, 30 - right, HEIGHT, WIDTH))


@pytest.mark.parametrize("alone", ["flip", "shift"])
def test_flip_or_shift_alone(images_NCHW: Tensor, alone: str) -> None:
    flip_N, shift_N2 = torch.tensor(FLIPS), torch.tensor(SHIFTS)
    if alone == "flip":
        result = transform(images_NCHW, Draws(flip_N=flip_N))
        both = Draws(flip_N=flip_N, shift_N2=torch.zeros_like(shift_N2))
    else:
        result = transform(images_NCHW, Draws(shift_N2=shift_N2))
        both = Draws(flip_N=torch.zeros_like(flip_N), shift_N2=shift_N2)
    assert torch.equal(result, transform(images_NCHW, both))
    assert not torch.equal(result, images_NCHW)


def test_flip_and_shift_in_channels_last(images_NCHW: Tensor) -> None:
    draws = Draws(flip_N=torch.tensor(FLIPS), shift_N2=torch.tensor(SHIFTS))
    last = images_NCHW.contiguous(memory_format=torch.channels_last)
    assert torch.equal(transform(last, draws), transform(images_NCHW, draws))


def test_resampling_equals_hflip_and_affine(images_NCHW: Tensor) -> None:
    degrees = [0.0, 15.0, -33.0, 90.0, 7.5, -170.0]
    zooms = [1.0, 1.3, 1.0, 1.0, 2.0, 1.5]  # enlarging a crop around the centre
    crops = [
        (WIDTH * (1 - 1 / zoom) / 2, HEIGHT * (1 - 1 / zoom) / 2, WIDTH / zoom, HEIGHT / zoom)
        for zoom in zooms
    ]
    draws = Draws(
        flip_N=torch.tensor(FLIPS),
        shift_N2=torch.tensor(SHIFTS),
        angle_N=torch.tensor(degrees) * (math.pi / 180),
        crop_N4=torch.tensor(crops),
    )
    result = transform(images_NCHW, draws)
    for i, image in enumerate(images_NCHW):
        flipped = reference.hflip(image) if FLIPS[i] else image
        expected = affine(flipped, degrees[i], *SHIFTS[i], zooms[i])
        torch.testing.assert_close(result[i], expected, atol=2e-5, rtol=0)


def test_rotation_alone_equals_affine(images_NCHW: Tensor) -> None:
    degrees = torch.tensor([0.0, 15.0, -33.0, 90.0, 7.5, -170.0])
    result = transform(images_NCHW, Draws(angle_N=degrees.deg2rad()))
    for image, angle, varied in zip(images_NCHW, degrees.tolist(), result, strict=True):
        torch.testing.assert_close(varied, affine(image, angle, 0, 0, 1.0), atol=2e-5, rtol=0)


def test_a_crop_anywhere_equals_resized_crop(images_NCHW: Tensor) -> None:
    crops = [(0, 0, 26, 20), (3, 2, 20, 15), (6, 5, 20, 15), (0, 4, 14, 16), (5, 0, 21, 11)]
    crops.append((10, 8, 16, 12))
    result = transform(images_NCHW, Draws(crop_N4=torch.tensor(crops).float()))
    for image, (left, top, width, height), varied in zip(images_NCHW, crops, result, strict=True):
        expected = reference.resized_crop(
            image, top, left, height, width, [HEIGHT, WIDTH], antialias=False
        )
        # At the crop's edge torchvision repeats its pixels; here the neighbours are looked up.
        torch.testing.assert_close(
            varied[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=2e-5, rtol=0
        )


def test_geometry_happens_in_the_order_crop_flip_rotation_shift() -> None:
    # Bilinear sampling of a plane is exact, so that one step must equal torchvision's four.
    x_W, y_H = torch.arange(60.0), torch.arange(60.0)
    plane = (x_W / 100 + y_H[:, None] / 300)[None]
    left, top, width, height, degrees, right, down = 4, 8, 50, 46, 20.0, 3, -2
    draws = Draws(
        flip_N=torch.tensor([True]),
        shift_N2=torch.tensor([[right, down]]),
        angle_N=torch.tensor([math.radians(degrees)]),
        crop_N4=torch.tensor([[left, top, width, height]]).float(),
    )
    step = reference.resized_crop(plane, top, left, height, width, [60, 60], antialias=False)
    step = affine(reference.hflip(step), degrees, 0, 0, 1.0)
    step = affine(step, 0.0, right, down, 1.0)
    inner = slice(20, 40)
    torch.testing.assert_close(
        transform(plane[None], draws)[0, :, inner, inner], step[:, inner, inner], atol=1e-5, rtol=0
    )


def test_brightness_and_contrast_equal_torchvisions(images_NCHW: Tensor) -> None:
    factors = [0.0, 0.5, 0.9, 1.0, 1.3, 2.0]
    brighter = transform(images_NCHW, Draws(brightness_N=torch.tensor(factors)))
    starker = transform(images_NCHW, Draws(contrast_N=torch.tensor(factors)))
    both = transform(
        images_NCHW,
        Draws(brightness_N=torch.tensor(factors), contrast_N=torch.tensor(factors)),
    )
    for i, (image, factor) in enumerate(zip(images_NCHW, factors, strict=True)):
        expected = reference.adjust_brightness(image, factor)
        torch.testing.assert_close(brighter[i], expected, atol=1e-6, rtol=0)
        expected_both = reference.adjust_contrast(expected, factor)
        torch.testing.assert_close(both[i], expected_both, atol=1e-6, rtol=0)
        expected = reference.adjust_contrast(image, factor)
        torch.testing.assert_close(starker[i], expected, atol=1e-6, rtol=0)


def test_erasing_equals_torchvisions(images_NCHW: Tensor) -> None:
    boxes = [
        (0, 0, 5, 9),
        (3, 4, 1, 1),
        (25, 19, 1, 1),
        (7, 7, 0, 0),
        (0, 0, 26, 20),
        (9, 2, 17, 3),
    ]
    result = transform(images_NCHW, Draws(erase_N4=torch.tensor(boxes)))
    for image, (left, top, width, height), varied in zip(images_NCHW, boxes, result, strict=True):
        expected = reference.erase(image, top, left, height, width, torch.zeros(1))
        assert torch.equal(varied, expected)


def test_erasing_comes_last() -> None:
    images_NCHW = torch.full((1, 1, HEIGHT, WIDTH), 0.5)
    box = torch.tensor([[2, 2, 4, 4]])
    draws = Draws(contrast_N=torch.tensor([0.5]), erase_N4=box, shift_N2=torch.tensor([[1, 1]]))
    assert (transform(images_NCHW, draws)[0, 0, 2:6, 2:6] == 0).all()


def test_the_argument_stays_as_it_is(images_NCHW: Tensor) -> None:
    before = images_NCHW.clone()
    for draws in (
        Draws(flip_N=torch.tensor(FLIPS), erase_N4=torch.ones(6, 4, dtype=torch.int64)),
        Draws(angle_N=torch.ones(6), contrast_N=torch.full((6,), 2.0)),
        Draws(brightness_N=torch.full((6,), 2.0)),
    ):
        assert not torch.equal(transform(images_NCHW, draws), before)
        assert torch.equal(images_NCHW, before)
