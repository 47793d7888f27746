"""Folders of pictures as people have them: what each is to do.

Every case starts from twelve pictures each of ants and bees; a function changes them, and the case
says what is read then.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageCms

from data.folders.layout import class_of
from data.folders.pictures import read_picture
from tests.data.insects import colour, fill, jpeg, load, make_insects, pattern, save

NAMES = (
    *("with space", " lead", "trail ", "-dash", "quote'\"", "<b>bold<b>", "a,b;c", "100%", "$HOME"),
    *("{x}", "[red]", "C#", "\u6c49\u5b57", "\U0001f468\u200d\U0001f469", "L" * 200),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_insects(tmp_path / "insects")


def nothing(root: Path) -> None:
    pass


def left_by_systems(root: Path) -> None:
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._000.png"):
        (root / "train/ant" / name).write_bytes(b"\xd0\xcf\x11\xe0" + bytes(500))
    for name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN", ".Trashes", "lost+found", "#recycle"):
        fill(root / "train" / name / "ant", 0, 2)
    fill(root / "train/ant/@eaDir", 0, 1)


def notes_and_checksums(root: Path) -> None:
    for name in ("README.txt", "000.json", "000.xmp", "all.md5", "SHA256SUMS", "labels.csv", "a"):
        (root / "train/bee" / name).write_text("BMW, GIF and II are words")


def mixed_formats(root: Path) -> None:
    for ending in ("bmp", "gif", "jpg", "ppm", "tif", "webp"):
        save(root / f"train/ant/more.{ending}", colour(50))


def endings_of_all_kinds(root: Path) -> None:
    for name in ("A.JPG", "B.JPEG", "C.jfif", "D.jpe", "E", "F.png", "G.txt", "h.heic"):
        (root / "train/ant" / name).write_bytes(jpeg())


def names_of_all_kinds(root: Path) -> None:
    for number, name in enumerate(NAMES):
        fill(root / "train" / name, 1000 * number, 3)
        save(root / f"train/ant/{name[:100]}.png", colour(number))


def without_train(root: Path) -> None:
    (root / "train").rename(root / "all")
    for name in ("ant", "bee"):
        (root / "all" / name).rename(root / name)
    (root / "all").rmdir()


def validation_of_its_own(root: Path) -> None:
    fill(root / "valid/ant", 200, 4)
    fill(root / "valid/bee", 300, 2)
    fill(root / "test/ant", 400, 3)
    fill(root / "test/bee", 500, 3)


def class_without_test(root: Path) -> None:
    fill(root / "test/ant", 400, 3)


def two_spellings(root: Path) -> None:
    fill(root / "train/caf\u00e9", 600, 4)
    fill(root / "train" / unicodedata.normalize("NFD", "caf\u00e9"), 700, 4)


def linked(root: Path) -> None:
    (root / "train/bee").rename(root / "bees elsewhere")
    (root / "train/bee").symlink_to(root / "bees elsewhere")
    save(root.parent / "one.png", colour(9))
    (root / "train/ant/link.png").symlink_to(root.parent / "one.png")


def read_only(root: Path) -> None:
    for folder in (root / "train/ant", root / "train", root):
        folder.chmod(0o555)


def tiny(root: Path) -> None:
    fill(root / "test/ant", 400, 1)
    save(root / "train/ant/tiny.png", Image.new("RGB", (1, 1), (9, 9, 200)))


def wide(root: Path) -> None:
    fill(root / "test/ant", 400, 1)
    save(root / "train/ant/wide.png", Image.fromarray(pattern(5, 3, 4000).astype("u1")))
    save(root / "train/ant/high.png", Image.fromarray(pattern(5, 4000, 3).astype("u1")))


def animated(root: Path) -> None:
    frames = [colour(seed) for seed in range(4)]
    for ending in ("gif", "webp", "png", "tiff"):
        path = root / f"train/ant/animated.{ending}"
        save(path, frames[0], save_all=True, append_images=frames[1:])


def ink(root: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for ending in ("jpg", "tif"):
        save(root / f"train/ant/cmyk.{ending}", colour(0).convert("CMYK"), icc_profile=profile)


def transparent(root: Path) -> None:
    save(root / "train/ant/p.png", colour(0).quantize(16), transparency=3)
    save(root / "train/ant/rgba.png", colour(0).convert("RGBA"))
    save(root / "train/ant/la.png", colour(0).convert("LA"))
    save(root / "train/ant/rgb.png", colour(0), transparency=(1, 2, 3))


def duplicates(root: Path) -> None:
    for name in ("ant", "bee"):
        save(root / f"train/{name}/same.png", colour(77))


def few_of_one(root: Path) -> None:
    fill(root / "train/rare", 800, 3)


def pictures_beside_the_classes(root: Path) -> None:
    save(root / "train/overview.png", colour(1))


READ: list[tuple[Callable[[Path], None], int, str]] = [
    (nothing, 24, "pictures of 24x24"),
    (left_by_systems, 24, r"skipped 4 files that are no pictures \(\.DS_Store, .* and 7 folders"),
    (notes_and_checksums, 24, "skipped 7 files that are no pictures"),
    (mixed_formats, 30, "24x24"),
    (endings_of_all_kinds, 32, "24x24"),
    (names_of_all_kinds, 24 + 4 * len(NAMES), "24x24"),
    (without_train, 24, "test: there is no folder .*/test, so 5 pictures are held out"),
    (validation_of_its_own, 36, "validation: the 6 pictures of valid/"),
    (class_without_test, 27, "warning: no test pictures of class 'bee'"),
    (two_spellings, 32, "24x24"),
    (linked, 25, "24x24"),
    (read_only, 24, "24x24"),
    (tiny, 26, "pictures of 1x1 to 24x24 scaled to 24x24 RGB, proportions kept"),
    (wide, 27, "24x24 to (4000x3|3x4000) scaled to 24x24 RGB"),
    (animated, 28, "24x24"),
    (ink, 26, "24x24"),
    (transparent, 28, "24x24"),
    (duplicates, 26, "24x24"),
    (few_of_one, 27, "24x24"),
    (pictures_beside_the_classes, 24, r"skipped 1 picture outside the classes' folders \(overview"),
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


def test_the_classes_of_a_folder_without_train_are_the_same(root: Path) -> None:
    before = load(root)
    without_train(root)
    after = load(root)
    assert after[0].class_names == before[0].class_names
    for one, other in zip(before[1:], after[1:], strict=True):
        assert torch.equal(one.images_NCHW, other.images_NCHW)


def test_two_spellings_are_one_class_in_every_split(root: Path) -> None:
    two_spellings(root)
    fill(root / "test" / unicodedata.normalize("NFD", "caf\u00e9"), 900, 2)
    info, training, test = load(root)
    assert info.class_names == ("ant", "bee", "caf\u00e9")
    assert training.labels_N.bincount().tolist() == [12, 12, 8]
    assert test.labels_N.tolist() == [2, 2]
    assert class_of("train/cafe\u0301/a.png") == "caf\u00e9"


def test_only_the_validation_folder_is_for_validation(root: Path) -> None:
    validation_of_its_own(root)
    info, training, _ = load(root)
    assert (info.has_own_validation, info.validation_count) == (True, 6)
    assert training.labels_N[-6:].tolist() == [0] * 4 + [1] * 2


def turned(root: Path) -> Iterator[Path]:
    for orientation in range(1, 9):
        for ending in ("jpg", "png", "tif"):
            picture = Image.new("L", (120, 60), 0)
            picture.paste(255, (0, 0, 40, 20))
            exif = Image.Exif()
            exif[0x0112] = orientation
            path = root / f"{orientation}.{ending}"
            save(path, picture, exif=exif)
            yield path


def test_every_exif_orientation_is_turned_upright(tmp_path: Path) -> None:
    corners = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    for path in turned(tmp_path):
        orientation = int(path.stem)
        shape = (1, 12, 24) if orientation < 5 else (1, 24, 12)
        image_HW = read_picture(path, shape)[0]
        row, column = corners[orientation]
        half = image_HW.chunk(2, 0)[row].chunk(2, 1)[column]
        assert half.float().mean() > 100, path
        assert image_HW.float().mean() < 40, path


def test_thousands_of_files_are_read_at_once(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (8, 8), 90).save(stream, "PNG")
    for name in ("a b", "cd"):
        (tmp_path / "p/train" / name).mkdir(parents=True)
        for index in range(1500):
            (tmp_path / "p/train" / name / f"{index}.png").write_bytes(stream.getvalue())
    info, training, test = load(tmp_path / "p")
    assert len(training) + len(test) == 3000
    assert info.image_shape == (1, 8, 8)
