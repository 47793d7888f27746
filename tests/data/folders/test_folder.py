"""Folders of pictures as users have them: what is read from each, or why it is refused.

Every case starts from twelve pictures each of ants and bees; a function then changes them.
"""

import os
import re
import unicodedata
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from data.arrays import mirror_changes_class
from data.datasets import count_test, load_test, load_training
from data.errors import DataError
from data.folders.folder import read_layout
from data.folders.held_out import record_test
from data.folders.looks import choose_size
from data.folders.preparation import Reading
from tests.data.pets import EACH, colour, fill, jpeg, load, save

NAMES = (
    *("with space", " lead", "trail ", "-dash", "quote'\"", "<b>bold<b>", "a,b;c", "100%", "$HOME"),
    *("{x}", "[red]", "C#", "\u6c49\u5b57", "\U0001f468\u200d\U0001f469", "L" * 200),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "insects"
    fill(root / "train/ant", 0)
    fill(root / "train/bee", 100)
    return root


def left_by_systems_and_people(root: Path) -> None:
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._000.png", "000.json", "all.md5", "a"):
        (root / "train/ant" / name).write_bytes(b"\xd0\xcf\x11\xe0" + bytes(500))
    for name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN", ".Trashes", "lost+found", "#recycle"):
        fill(root / "train" / name / "ant", 0, 2)
    fill(root / "train/ant/@eaDir", 0, 1)
    fill(root / "train/ant/red", 0, 1)
    save(root / "train/overview.png", colour(1))


def names_and_endings_of_all_kinds(root: Path) -> None:
    for number, name in enumerate(NAMES):
        fill(root / "train" / name, 1000 * number, 3)
        save(root / f"train/ant/{name[:100]}.png", colour(number))
    for name in ("A.JPG", "B.JPEG", "C.jfif", "D.jpe", "F.png"):
        (root / "train/ant" / name).write_bytes(jpeg())


def train_by_two_names(root: Path) -> None:
    """As on file systems of macOS and Windows, where `Train` is also `train`."""
    (root / "Train").symlink_to("train")
    fill(root / "Test/ant", 400, 3)


def without_train(root: Path) -> None:
    for name in ("ant", "bee"):
        (root / "train" / name).rename(root / name)
    (root / "train").rmdir()


def validation_of_its_own(root: Path) -> None:
    counts = {"valid/ant": 4, "valid/bee": 2, "test/ant": 3, "test/bee": 3}
    for index, (name, count) in enumerate(counts.items(), start=2):
        fill(root / name, 100 * index, count)


def two_spellings(root: Path) -> None:
    fill(root / "train/caf\u00e9", 600, 4)
    fill(root / "train" / unicodedata.normalize("NFD", "caf\u00e9"), 700, 4)


def without_train_and_a_study_beside(root: Path) -> None:
    without_train(root)
    save(root / "runs/insects/figures/curves.png", colour(1))
    (root / "runs/insects/study.json").write_text("{}")
    (root / "studies.db").write_bytes(b"SQLite")


def linked(root: Path) -> None:
    (root / "train/bee").rename(root / "bees elsewhere")
    (root / "train/bee").symlink_to(root / "bees elsewhere")
    save(root.parent / "one.png", colour(9))
    (root / "train/ant/link.png").symlink_to(root.parent / "one.png")


def tiny_wide_and_animated(root: Path) -> None:
    save(root / "train/ant/tiny.png", colour(1, 1, 1))
    save(root / "train/ant/wide.png", colour(5, 3, 4000))
    frames = [colour(seed) for seed in range(4)]
    for ending in ("gif", "webp", "png", "tiff"):
        path = root / f"train/ant/animated.{ending}"
        save(path, frames[0], save_all=True, append_images=frames[1:])


READ: list[tuple[Callable[[Path], None], int, str]] = [
    (left_by_systems_and_people, 24, r"skipped, .* of a class: 16 \(#recycle, .* more\)"),
    (names_and_endings_of_all_kinds, 29 + 4 * len(NAMES), "pictures of 24x24 as they are, RGB"),
    (without_train, 24, "test: there is no folder .*/test, so 5 pictures are held out"),
    (validation_of_its_own, 36, "validation: the 6 pictures of valid/"),
    (without_train_and_a_study_beside, 24, r"skipped, .*: 2 \(runs, studies.db\)"),
    (lambda root: fill(root / "Test/ant", 400, 3), 24, r"skipped, .* of a class: 1 \(Test\)"),
    (train_by_two_names, 24, r"skipped, .* of a class: 1 \(Test\)"),
    (lambda root: fill(root / "test/ant", 400, 3), 27, "warning: no test pictures of class 'bee'"),
    (two_spellings, 32, "24x24"),
    (linked, 25, "24x24"),
    (tiny_wide_and_animated, 30, "of 1x1 to 4000x3 scaled to 24x24 RGB, prop.*--image-size N"),
]


@pytest.mark.parametrize(("change", "count", "said"), READ)
def test_it_is_read(root: Path, change: Callable[[Path], None], count: int, said: str) -> None:
    change(root)
    info, training, test = load(root)
    assert len(training) + len(test) == count
    assert info.image_shape == (3, 24, 24)
    assert info.training_count == len(training)
    assert re.search(said, "\n".join(info.notes)), info.notes
    assert all("\n" not in note for note in info.notes)
    assert count_test(info.name, root.parent / "data") == len(test)


def test_images_and_labels_are_those_of_the_files(root: Path) -> None:
    validation_of_its_own(root)
    info, training, test = load(root)
    assert (info.has_own_validation, info.validation_count) == (True, 6)
    assert training.labels_N.tolist() == [0] * EACH + [1] * EACH + [0] * 4 + [1] * 2
    assert test.labels_N.tolist() == [0] * 3 + [1] * 3
    files = read_layout(root, root.parent / "data").images
    for file, image_CHW in zip(files, training.images_NCHW, strict=True):
        reference = np.asarray(Image.open(root / file)).transpose(2, 0, 1)
        assert np.array_equal(image_CHW.numpy(), reference)


@pytest.mark.parametrize(
    ("shorter_side", "count", "size"),
    [(27, 100, 27), (100, 100, 96), (3000, 25_000, 48), (3000, 10**6, 32), (2, 9, 8), (0, 0, 32)],
)
def test_the_size_suits_half_the_pictures_within_a_pixel_budget(
    shorter_side: int, count: int, size: int
) -> None:
    assert choose_size([(10_000, shorter_side)] * count) == size


def test_a_study_of_an_earlier_version_reads_its_pictures_as_before(tmp_path: Path) -> None:
    """As in commit 3bc7fe6: stretched to 32 x 32; `val` is not a split."""
    names = ("train/left", "train/right", "test/left", "test/right", "val/left")
    for name, index in product(names, range(5)):
        save(tmp_path / f"p/{name}/{index}.png", Image.new("L", (120, 70), 40 * index))
    reading = Reading(version=1)
    info, training = load_training(f"folder:{tmp_path / 'p'}", tmp_path, reading=reading)
    assert (info.image_shape, info.training_count) == ((1, 32, 32), 10)
    assert not info.has_own_validation
    assert not info.mirror_changes_class
    with Image.open(tmp_path / "p/train/right/4.png") as picture:
        stretched = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(training.images_NCHW[-1, 0].numpy(), stretched)


def test_mirroring_is_guessed_from_class_names() -> None:
    for unsafe in ("a,b", "digit 0,digit_1", "zero,one,two", "00000,00042", "turn left,turn right"):
        assert mirror_changes_class(unsafe.split(",")), unsafe
    for safe in ("cat,dog", "bright,leftover", "4,cat"):
        assert not mirror_changes_class(safe.split(",")), safe


def test_a_study_can_fix_mirroring_and_image_size(root: Path) -> None:
    for fixed, said in ((None, "--mirror unsafe forbids it"), (True, "none is flipped")):
        reading = Reading(mirror_changes_class=fixed)
        info, _ = load_training(f"folder:{root}", root.parent, reading=reading)
        assert info.mirror_changes_class is bool(fixed)
        assert said in info.notes[-1]
    with pytest.raises(DataError, match="image size 0 is not between 1 and 1024"):
        load_training(f"folder:{root}", root.parent, reading=Reading(image_size=0))


def test_only_a_training_image_in_colour_makes_a_data_set_rgb(
    tmp_path: Path,
) -> None:
    grey, red = Image.new("RGB", (9, 9), (7, 7, 7)), Image.new("RGB", (9, 9), (200, 0, 0))
    for name, index in product("ab", range(3)):
        save(tmp_path / f"p/train/{name}/{index}.png", grey)
    save(tmp_path / "p/test/a/red.png", red)
    assert load(tmp_path / "p")[0].image_shape == (1, 9, 9)
    save(tmp_path / "p/train/a/red.png", red)
    test = load(tmp_path / "p")[2]
    assert torch.equal(test.images_NCHW[0, :, 0, 0], torch.tensor([200, 0, 0]).to(torch.uint8))


def test_training_opens_no_test_image(root: Path) -> None:
    drawn = read_layout(root, root.parent / "data").test_digests
    record_test(root, drawn, root.parent / "data")
    for file in drawn:
        (root / file).write_bytes(b"never read")
    load_training(f"folder:{root}", root.parent / "data")
    with pytest.raises(DataError, match="cannot be read as a picture"):
        load_test(f"folder:{root}", root.parent / "data")


def damaged(root: Path) -> None:
    (root / "train/ant/empty.jpg").write_bytes(b"")
    (root / "train/ant/half.jpg").write_bytes(jpeg()[: len(jpeg()) // 2])
    (root / "train/bee/a.heic").write_bytes(bytes(4) + b"ftypheic" + bytes(40))


def bytes_for_a_name(root: Path) -> None:
    folder = os.fsencode(root / "train/ant")
    os.rename(folder + b"/000.png", folder + b"/caf\xe9.png")  # noqa: PTH104


def nothing_in_a_class(root: Path) -> None:
    (root / "train/cow").mkdir()
    (root / "train/cow/notes.txt").write_text("no cows yet")
    (root / "train/dog").mkdir()


def filled(*names: str) -> Callable[[Path], None]:
    """One more picture in each of these folders."""

    def change(root: Path) -> None:
        for name in names:
            fill(root / name, 0, 1)

    return change


def links_that_lead_nowhere(root: Path) -> None:
    (root / "train/ant/x.png").symlink_to("/nonexistent/x.png")
    (root / "train/cow").symlink_to("/nonexistent/cow")


def validation_without_train(root: Path) -> None:
    without_train(root)
    fill(root / "val/ant", 0, 1)


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (
        damaged,
        r"3 files: .*empty.jpg cannot be read as a picture, .*half.jpg .*, .*a.heic .*: HEIC is a "
        r".* not supported; replace them with intact pictures \(BMP, .*\), or delete them$",
    ),
    (bytes_for_a_name, r"train/ant/caf\\xe9.png: the name .* is not valid UTF-8; rename it"),
    (
        lambda root: fill(root / "train/fox\x1b[31m\n", 0, 3),
        r"train/fox\\x1b\[31m\\n: the name has control characters",
    ),
    (nothing_in_a_class, "train/cow, .*train/dog has no images"),
    (links_that_lead_nowhere, "train/cow, .*train/ant/x.png: broken link; fix or delete it"),
    (validation_without_train, "a folder val beside its class folders; move the latter into"),
    (filled("val/ant", "valid/ant"), "has folders val, valid; keep one"),
    (filled("val/cow"), "class 'cow' of .*/val is not in .*/train"),
    (filled("train/fox", "test/ant"), "class 'fox' .* has 1 images .* at least 2"),
    (lambda root: (root / "train").rename(root / "x"), "there is no folder .*/insects/train; put"),
    (lambda root: (root / "train/bee").rename(root / "bee"), "/train has a single class"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_an_unfit_folder_is_refused_in_one_line_and_nothing_is_stored(
    root: Path, change: Callable[[Path], None], said: str
) -> None:
    change(root)
    with pytest.raises(DataError, match=said) as caught:
        load(root)
    assert str(caught.value).isprintable()
    assert not (root.parent / "data").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "'folder:' lacks its path; choose .*folder:PATH"),
        ("~nobody-of-this-name/pets", "cannot find ~nobody-of-this-name/pets"),
        ("pets\0", "control characters"),
    ],
)
def test_an_unusable_path_is_named_in_the_error(tmp_path: Path, given: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_training(f"folder:{given}", tmp_path)


@pytest.mark.parametrize(
    ("size", "said"), [(None, "pets has 3.86"), (64, "pets has at least 9.16")]
)
def test_what_would_not_fit_in_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, said: str
) -> None:
    for seed, place in enumerate(("train/ant", "train/bee", "test/ant", "test/bee")):
        fill(tmp_path / "pets" / place, 100 * seed)

    def refuse(*_: object) -> None:
        raise AssertionError("pictures were decoded")

    monkeypatch.setattr("data.folders.folder.read_pictures", refuse)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**16))
    reading = Reading(image_size=size)
    with pytest.raises(DataError, match=rf"{said}e-05 GiB of arrays, but only 6.1e-05 GiB of"):
        load_training(f"folder:{tmp_path / 'pets'}", tmp_path / "data", reading=reading)
