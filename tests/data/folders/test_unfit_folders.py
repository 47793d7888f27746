"""Folders of pictures that cannot be used: all that is wrong of one kind at once, with paths."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from data.datasets import load_training
from data.errors import DataError
from tests.data.insects import EACH, fill, jpeg, load, make_insects, save


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_insects(tmp_path / "insects")


def damaged(root: Path) -> None:
    (root / "train/ant/empty.jpg").write_bytes(b"")
    (root / "train/ant/half.jpg").write_bytes(jpeg()[: len(jpeg()) // 2])
    (root / "train/bee/page.jpg").write_text("<html>404 Not Found</html>")


def many_damaged(root: Path) -> None:
    for index in range(50):
        (root / f"train/ant/{index:03d}.jpg").write_bytes(b"")


def of_a_foreign_format(root: Path) -> None:
    (root / "train/ant/a.heic").write_bytes(bytes(4) + b"ftypheic" + bytes(40))
    (root / "train/ant/b.jpg").write_bytes(bytes(4) + b"ftypmif1" + bytes(40))
    (root / "train/bee/c.svg").write_text("<svg/>")
    (root / "train/bee/d.dng").write_bytes(b"II*\0" + bytes(100))


def link_to_nothing(root: Path) -> None:
    (root / "train/ant/x.png").symlink_to("/nonexistent/x.png")


def bytes_for_a_name(root: Path) -> None:
    folder = os.fsencode(root / "train/ant")
    os.rename(folder + b"/000.png", folder + b"/caf\xe9.png")  # noqa: PTH104


def folder_in_a_class(root: Path) -> None:
    fill(root / "train/ant/red", 0, 1)


def nothing_in_a_class(root: Path) -> None:
    (root / "train/cow").mkdir()
    (root / "train/dog").mkdir()


def notes_alone(root: Path) -> None:
    (root / "train/cow").mkdir()
    (root / "train/cow/notes.txt").write_text("no cows yet")


def two_for_validation(root: Path) -> None:
    fill(root / "val/ant", 0, 1)
    fill(root / "valid/ant", 0, 1)


def unknown_in_validation(root: Path) -> None:
    fill(root / "val/cow", 0, 1)


def huge(root: Path) -> None:
    fill(root / "test/ant", 0, 1)
    save(root / "train/ant/scan.png", Image.new("1", (10_000, 10_000)))


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (damaged, "3 files: each cannot be read as a picture; .*empty.jpg, .*half.jpg, .*page.jpg$"),
    (many_damaged, "50 files: .*000.jpg, .*019.jpg and 30 more$"),
    (of_a_foreign_format, "a.heic, .*b.jpg;.*c.svg .* SVG is a format .* convert it.*camera raw"),
    (link_to_nothing, "train/ant/x.png is a link to nothing"),
    (bytes_for_a_name, r"train/ant/caf\\xe9.png: the name has .* no text in UTF-8"),
    (folder_in_a_class, "train/ant/red is not a file; images lie directly"),
    (nothing_in_a_class, "train/cow, .*train/dog has no images"),
    (notes_alone, "train/cow has no images"),
    (two_for_validation, "has folders val, valid; keep one"),
    (unknown_in_validation, "class 'cow' of .*/val is not in .*/train"),
    (huge, "scan.png has more than the [0-9]+ pixels that are safe"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_it_is_refused_in_one_line(root: Path, change: Callable[[Path], None], said: str) -> None:
    change(root)
    with pytest.raises(DataError, match=said) as caught:
        load(root)
    assert str(caught.value).isprintable()


def test_a_damaged_picture_is_found_before_it_can_be_held_out(root: Path) -> None:
    for name in ("ant", "bee"):
        for index in range(EACH):
            (root / f"train/{name}/{index:03d}.png").write_bytes(b"")
    with pytest.raises(DataError, match="24 files"):
        load_training(f"folder:{root}", root.parent / "data")
    assert not (root.parent / "data").exists()
