"""The size of images is chosen from the pictures, and their proportions are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.datasets import load_test, load_training
from data.folders.composition import Composition, find_figure
from data.folders.folder import mirror_changes_class
from data.folders.pictures import read_picture
from data.folders.preparation import Preparation, Reading
from data.folders.recompose import read_alike
from data.folders.survey import choose_size

PADDED = Preparation(fit="pad")


@pytest.mark.parametrize(
    ("shorter_side", "count", "size"),
    [
        (28, 100, 28),
        (27, 100, 27),
        (31.5, 100, 28),
        (100, 100, 96),
        (3000, 100, 128),
        (3000, 10_000, 64),
        (3000, 25_000, 48),
        (3000, 1_000_000, 32),
        (2, 100, 8),
        (0, 0, 32),
    ],
)
def test_the_size_is_that_of_half_the_pictures_as_far_as_time_allows(
    shorter_side: float, count: int, size: int
) -> None:
    assert choose_size([(10_000, shorter_side)] * count) == size


def save(path: Path, picture: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (17, 3), (400, 1)])
def test_the_whole_picture_is_there_and_the_rest_has_its_borders_colour(
    tmp_path: Path, width: int, height: int
) -> None:
    picture = Image.new("RGB", (width, height), (10, 200, 30))
    path = save(tmp_path / "a.png", picture)
    image = read_picture(path, (3, 20, 20), PADDED)
    assert torch.equal(
        image, torch.tensor([10, 200, 30], dtype=torch.uint8).view(3, 1, 1).expand(3, 20, 20)
    )


def test_a_square_stays_one_in_the_middle(tmp_path: Path) -> None:
    picture = Image.new("L", (80, 40), 255)
    picture.paste(0, (30, 10, 50, 30))
    image_HW = read_picture(save(tmp_path / "a.png", picture), (1, 40, 40), PADDED)[0]
    dark = (image_HW < 128).nonzero()
    assert dark.amin(0).tolist() == [15, 15]
    assert dark.amax(0).tolist() == [24, 24]
    _, notes = read_alike(tmp_path / "a.png", (1, 40, 40), None, PADDED)
    assert "padded at its sides" in notes


def test_a_drawing_keeps_its_proportions_too(tmp_path: Path) -> None:
    picture = Image.new("L", (200, 100), 0)
    picture.paste(255, (75, 25, 125, 75))
    save(tmp_path / "a.png", picture)
    alike = Composition(on_dark=True, ground=0.0, level=1.0, size=None, centring=None)
    image, _ = read_alike(tmp_path / "a.png", (1, 32, 32), alike, PADDED)
    figure = find_figure(image[0].numpy().astype(np.float32) / 255)
    assert figure is not None
    assert figure.height == figure.width


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        for index in range(5):
            level = 40 * index
            picture = Image.new("L", (120, 70), level)
            picture.paste(255, (0, 0, 40, 40))
            save(tmp_path / f"p/train/{name}/{index}.png", picture)
            save(tmp_path / f"p/test/{name}/{index}.png", picture)
    return tmp_path / "p"


def test_training_and_test_pictures_are_prepared_alike_and_it_is_said(root: Path) -> None:
    info, training = load_training(f"folder:{root}", root.parent)
    test = load_test(f"folder:{root}", root.parent)
    assert info.image_shape == (1, 64, 64)
    assert torch.equal(training.images_NCHW, test.images_NCHW)
    assert info.notes[0] == (
        "pictures of 120x70 scaled to 64x64 grey, proportions kept, the rest filled with the "
        "colour of each picture's border; --image-size N changes the size"
    )
    reading = Reading(image_size=20)
    info, _ = load_training(f"folder:{root}", root.parent, reading=reading)
    assert info.image_shape == (1, 20, 20)
    assert "--image-size" not in info.notes[0]


def test_a_study_of_before_the_choice_reads_its_pictures_as_it_did(root: Path) -> None:
    """As commit 3bc7fe6: stretched to 32 x 32; `val` was no split; no spelling was mended."""
    save(root / "val/ant/0.png", Image.new("L", (120, 70), 7))
    info, training = load_training(f"folder:{root}", root.parent, reading=Reading(version=1))
    assert info.image_shape == (1, 32, 32)
    assert (info.training_count, info.validation_count) == (10, 2)
    assert not info.has_own_validation
    with Image.open(root / "train/bee/4.png") as picture:
        stretched = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(training.images_NCHW[-1, 0].numpy(), stretched)


@pytest.mark.parametrize(
    ("names", "unsafe"),
    [
        (("0", "1"), True),
        (("a", "b"), True),
        (("cat", "dog"), False),
        (("digit 0", "digit_1"), True),
        (("zero", "one", "two"), True),
        (("00000", "00042"), True),  # traffic signs
        (("turn left", "turn right"), True),
        (("Left-hand", "palm"), True),
        (("bright", "leftover"), False),
        (("letter_a", "letter_b"), True),
        (("4", "cat"), False),
        (("\u4e00", "\u4e8c"), True),
        (("!!", "??"), False),
    ],
)
def test_mirroring_is_guessed_from_the_classes_names(names: tuple[str, ...], unsafe: bool) -> None:
    assert mirror_changes_class(names, version=2) is unsafe


def test_mirroring_can_be_said(root: Path) -> None:
    info, _ = load_training(f"folder:{root}", root.parent)
    assert not info.mirror_changes_class
    assert "--mirror unsafe forbids it" in info.notes[-1]
    reading = Reading(mirror_changes_class=True)
    info, _ = load_training(f"folder:{root}", root.parent, reading=reading)
    assert info.mirror_changes_class
    assert "none is flipped" in info.notes[-1]
    info, _ = load_training("digits", root.parent, reading=Reading(mirror_changes_class=False))
    assert not info.mirror_changes_class
