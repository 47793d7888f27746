"""The composition shared by training images, and pictures adapted to it no more than needed."""

from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data.datasets import load_training
from data.folders.composition import AS_IT_IS, Composition, find_figure, measure, read_alike
from data.folders.preparation import Preparation
from tests.data.pets import load, save

SHAPE = (1, 28, 28)
MNIST = Composition(on_dark=True, ground=0.0, level=1.0, size=20 / 28)


def blobs(count: int, *, size: int = 20) -> NDArray[np.uint8]:
    """White boxes of `size` x a random width, centred, on black."""
    rng = np.random.default_rng(0)
    images = np.zeros((count, 1, 28, 28), dtype=np.uint8)
    for image in images[:, 0]:
        width = int(rng.integers(2, size // 2 + 1)) * 2
        top, left = (28 - size) // 2, (28 - width) // 2
        image[top : top + size, left : left + width] = 255
    return images


def measured(images: NDArray[np.uint8]) -> Composition:
    found = measure(images)
    assert found is not None
    assert Composition.from_dict(asdict(found)) == found
    return found


def test_common_features_are_found_and_varying_ones_ignored() -> None:
    assert measured(blobs(100)) == MNIST
    negative = Composition(on_dark=False, ground=1, level=0, size=20 / 28)
    assert measured(255 - blobs(100)) == negative
    mixed = np.concatenate([blobs(50), blobs(50, size=8)])
    assert measured(mixed).size is None
    earlier = {"on_dark": True, "ground": 0.0, "level": None, "size": 1.0, "centring": "box"}
    assert Composition.from_dict(earlier).level == 1


def test_a_place_that_varies_is_kept(tmp_path: Path) -> None:
    lights = np.full((40, 1, 28, 28), 60, dtype=np.uint8)
    for index, image in enumerate(lights[:, 0]):  # a lamp at the top or at the bottom
        top = 5 if index % 2 else 17
        image[top : top + 6, 11:17] = 240
    composition = measured(lights)
    assert composition.size is None
    for image in lights[:2, 0]:
        again, said = read(Image.fromarray(image.repeat(3, 0).repeat(3, 1)), tmp_path, composition)
        assert said == "resized from 84x84"
        assert np.array_equal(again[0], image)
    placed = np.roll(blobs(100, size=14), 6, axis=-1)  # neither box nor mass is at the centre
    assert measured(placed).size is None


def test_without_a_figure_on_a_plain_ground_there_is_no_composition() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 1, 28, 28), dtype=np.uint8)
    assert measure(noise) is None
    assert measure(np.zeros((20, 1, 28, 28), dtype=np.uint8)) is None
    assert measure(np.repeat(blobs(50), 3, axis=1)) is None  # colour images count as natural
    assert measure(np.concatenate([blobs(50), 255 - blobs(50)])) is None


def drawing(
    size: tuple[int, int] = (300, 300), box: tuple[int, int, int, int] = (100, 60, 160, 240)
) -> Image.Image:
    """An L, black on white: its centre of mass is not the centre of its box."""
    picture = Image.new("L", size, 255)
    left, top, right, bottom = box
    pen = (right - left) // 4
    for stroke in ((left, top, left + pen, bottom), (left, bottom - pen, right, bottom)):
        ImageDraw.Draw(picture).rectangle(stroke, fill=0)
    return picture


def read(
    picture: Image.Image, folder: Path, composition: Composition | None = MNIST
) -> tuple[torch.Tensor, str]:
    picture.save(folder / "picture.png")
    image_CHW, notes = read_alike(folder / "picture.png", SHAPE, composition, Preparation())
    assert image_CHW.shape == SHAPE
    return image_CHW, "; ".join(notes)


def test_polarity_ink_size_and_place_become_those_of_the_training_images(tmp_path: Path) -> None:
    reference, said = read(drawing(), tmp_path)
    assert "dark on light, inverted" in said
    inverse, _ = read(drawing().point(lambda level: 255 - level), tmp_path)
    assert torch.equal(inverse, reference)
    figure = find_figure(reference[0].numpy().astype(np.float32) / 255)
    assert figure is not None
    assert max(figure.ink_HW.shape) == 20
    assert reference[0, :4].max() > 0  # its mass is in its lower part
    pencil, _ = read(drawing().point(lambda level: 90 + level // 3), tmp_path)  # grey on grey
    assert (pencil[0, 0].max(), pencil.max()) == (0, 255)
    for size, box in (((900, 300), (600, 60, 660, 240)), ((1200, 1200), (400, 240, 640, 960))):
        image, _ = read(drawing(size, box), tmp_path)
        assert (image.float() - reference.float()).abs().mean() < 4, (size, box)


def test_files_of_a_folders_test_set_are_read_as_finalize_reads_them(tmp_path: Path) -> None:
    """Among three classes dark on light there is a fourth, light on dark, one picture in twelve."""
    root = tmp_path / "shapes"
    for part, (index, name) in product(("train", "test"), enumerate("abcn")):
        for width in range(10, 14 if name == "n" else 25):
            picture = drawing((48, 40), (14, 6 + 2 * index, 14 + width, 36))
            picture = picture.point(lambda it: 255 - it) if name == "n" else picture
            save(root / part / name / f"{width}.png", picture)
    info, training, test = load(root)
    composition = measured(training.images_NCHW.numpy())
    files = sorted((root / "test").glob("*/*.png"))
    read = [read_alike(it, info.image_shape, composition, info.preparation)[0] for it in files]
    assert torch.equal(torch.stack(read), test.images_NCHW)


def test_training_images_are_left_unchanged(tmp_path: Path) -> None:
    _, examples = load_training("digits", tmp_path)
    composition = measure(examples.images_NCHW.numpy())
    for image in examples.images_NCHW[:30]:
        Image.fromarray(image[0].numpy()).save(tmp_path / "digit.png")
        again, said = read_alike(tmp_path / "digit.png", (1, 8, 8), composition, Preparation())
        assert said == [AS_IT_IS]
        assert torch.equal(again, image)


@pytest.mark.parametrize("levels", [None, (0, 1), (0, 4095), (0, 65535)])
def test_an_enlarged_image_of_training_arrays_becomes_the_original_again(
    tmp_path: Path, levels: tuple[float, float] | None
) -> None:
    pixels_HW = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels_HW.repeat(5, 0).repeat(5, 1)).save(tmp_path / "large.png")
    preparation = Preparation(levels=levels)
    again, _ = read_alike(tmp_path / "large.png", (1, 8, 8), None, preparation)
    assert np.array_equal(again[0], pixels_HW)


def test_natural_images_are_never_inverted_and_blank_images_are_reported(tmp_path: Path) -> None:
    kept, said = read(drawing(), tmp_path, None)
    assert (kept[0, 0, 0], said) == (255, "resized from 300x300")
    for size in ((1, 1), (1, 3000), (28, 28)):
        assert "blank" in read(Image.new("L", size, 200), tmp_path)[1]
