"""A picture made like the training images: ground, size and place, and nothing more than needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from data.datasets import load_training
from data.folders.composition import Composition, find_figure
from data.folders.recompose import AS_IT_IS, read_alike

SHAPE = (1, 28, 28)
MNIST = Composition(on_dark=True, ground=0.0, level=1.0, size=20 / 28, centring="mass")
CLOTHES = Composition(on_dark=True, ground=0.0, level=None, size=1.0, centring="box")


def drawing(
    size: tuple[int, int] = (300, 300), box: tuple[int, int, int, int] = (100, 60, 160, 240)
) -> Image.Image:
    """A lying L, black on white: its centre of mass is not that of its box."""
    picture = Image.new("L", size, 255)
    pencil = ImageDraw.Draw(picture)
    left, top, right, bottom = box
    pen = (right - left) // 4
    pencil.rectangle((left, top, left + pen, bottom), fill=0)
    pencil.rectangle((left, bottom - pen, right, bottom), fill=0)
    return picture


def read(
    picture: Image.Image, folder: Path, composition: Composition | None = MNIST
) -> torch.Tensor:
    picture.save(folder / "picture.png")
    return read_alike(folder / "picture.png", SHAPE, composition)[0]


def notes(picture: Image.Image, folder: Path, composition: Composition | None = MNIST) -> str:
    picture.save(folder / "picture.png")
    return "; ".join(read_alike(folder / "picture.png", SHAPE, composition)[1])


def test_polarity_is_found_said_and_undone(tmp_path: Path) -> None:
    black_on_white = drawing()
    white_on_black = black_on_white.point(lambda level: 255 - level)
    assert torch.equal(read(black_on_white, tmp_path), read(white_on_black, tmp_path))
    assert "dark on light, inverted" in notes(black_on_white, tmp_path)
    assert "inverted" not in notes(white_on_black, tmp_path)


def test_grey_pencil_on_grey_paper_gets_the_trainings_ground_and_ink(tmp_path: Path) -> None:
    pencil = drawing().point(lambda level: 90 + level // 3)
    image = read(pencil, tmp_path)[0]
    assert image[0].max() == 0
    assert image.max() == 255


def test_size_and_place_are_those_of_the_training_images(tmp_path: Path) -> None:
    image = read(drawing(), tmp_path)[0].numpy().astype(np.float32) / 255
    figure = find_figure(image)
    assert figure is not None
    assert max(figure.height, figure.width) in (19, 20, 21)
    assert (figure.mass_y, figure.mass_x) == pytest.approx((14, 14), abs=0.6)
    assert MNIST.fits(figure, 28)


def test_where_and_how_large_it_was_drawn_does_not_matter(tmp_path: Path) -> None:
    reference = read(drawing(), tmp_path).float()
    for size, box in (
        ((900, 300), (600, 60, 660, 240)),
        ((300, 900), (10, 700, 70, 880)),
        ((1200, 1200), (400, 240, 640, 960)),
    ):
        image = read(drawing(size, box), tmp_path).float()
        assert (image - reference).abs().mean() < 4, (size, box)


def test_clothes_keep_their_own_shade(tmp_path: Path) -> None:
    grey = drawing().point(lambda level: 255 if level else 155)
    image = read(grey, tmp_path, CLOTHES)[0]
    assert abs(int(image.max()) - 100) <= 1  # as far above black as it was below white
    assert "middle" in notes(grey, tmp_path, CLOTHES)
    assert image[0].max() > 0  # the longer side touches two edges
    assert image[-1].max() > 0


def test_a_training_image_passes_untouched(tmp_path: Path) -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 11:17] = np.random.default_rng(0).integers(150, 255, (20, 6))
    image[4, 11] = image[23, 16] = 255
    picture = Image.fromarray(image)
    assert np.array_equal(read(picture, tmp_path)[0].numpy(), image)
    assert notes(picture, tmp_path) == AS_IT_IS


def test_the_bundled_digits_pass_as_they_are(tmp_path: Path) -> None:
    _, examples = load_training("digits", Path())
    from data.folders.composition import measure

    composition = measure(examples.images_NCHW.numpy())
    untouched = 0
    for index in range(0, 300, 3):
        image = examples.images_NCHW[index, 0].numpy()
        Image.fromarray(image).save(tmp_path / "digit.png")
        read_, said = read_alike(tmp_path / "digit.png", (1, 8, 8), composition)
        untouched += said == [AS_IT_IS]
        assert said != [AS_IT_IS] or np.array_equal(read_[0].numpy(), image)
    assert untouched >= 95


def test_natural_images_are_never_inverted(tmp_path: Path) -> None:
    picture = drawing()
    kept = read(picture, tmp_path, None)
    assert kept[0, 0, 0] == 255
    said = notes(picture, tmp_path, None)
    assert said == "resized from 300x300"
    assert "proportions changed" in notes(drawing((900, 300)), tmp_path, None)


def test_colour_networks_get_colour(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (200, 10, 10)).save(tmp_path / "red.png")
    image, _ = read_alike(tmp_path / "red.png", (3, 32, 32), None)
    assert image[:, 0, 0].tolist() == [200, 10, 10]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (28, 28), (5, 7)])
def test_blank_pictures_are_said_to_be_blank(size: tuple[int, int], tmp_path: Path) -> None:
    picture = Image.new("L", size, 200)
    assert "blank" in notes(picture, tmp_path)
    assert read(picture, tmp_path).shape == SHAPE


def test_a_drawing_on_nothing_is_seen_in_either_shade(tmp_path: Path) -> None:
    ink = drawing().point(lambda level: 255 - level)
    images = []
    for shade in (0, 255):
        picture = Image.new("RGBA", ink.size, (shade, shade, shade, 0))
        picture.putalpha(ink)
        images.append(read(picture, tmp_path))
    assert torch.equal(*images)
    assert images[0].max() == 255
