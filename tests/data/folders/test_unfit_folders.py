"""Folders of pictures that cannot be used: refused in one line, all faults of a kind at once.

Every case starts from twelve pictures each of ants and bees, which a function changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data.datasets import load_training
from data.errors import DataError
from tests.data.pets import fill, jpeg, load, make_insects


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_insects(tmp_path / "insects")


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


def two_for_validation(root: Path) -> None:
    fill(root / "val/ant", 0, 1)
    fill(root / "valid/ant", 0, 1)


def one_image_beside_a_test_set(root: Path) -> None:
    fill(root / "train/fox", 0, 1)
    fill(root / "test/ant", 0, 1)


REFUSED: list[tuple[Callable[[Path], None], str]] = [
    (
        damaged,
        r"3 files: .*empty.jpg cannot be read as a picture, .*half.jpg .*, .*a.heic .*: HEIC is a "
        ".* not supported; put a whole picture",
    ),
    (
        lambda root: (root / "train/ant/x.png").symlink_to("/nonexistent/x.png"),
        "train/ant/x.png is a folder or a link to nothing",
    ),
    (bytes_for_a_name, r"train/ant/caf\\xe9.png: the name .* is no text in UTF-8; rename it"),
    (
        lambda root: fill(root / "train/fox\x1b[31m\n", 0, 3),
        r"train/fox\\x1b\[31m\\n: the name has control characters",
    ),
    (
        lambda root: fill(root / "train/ant/red", 0, 1),
        "ant/red is a folder .* directly into",
    ),
    (nothing_in_a_class, "train/cow, .*train/dog has no images"),
    (two_for_validation, "has folders val, valid; keep one"),
    (lambda root: fill(root / "val/cow", 0, 1), "class 'cow' of .*/val is not in .*/train"),
    (lambda root: fill(root / "train/fox", 0, 2), "class 'fox' .* has 2 images .* at least 3"),
    (one_image_beside_a_test_set, "class 'fox' .* has 1 images .* at least 2"),
    (lambda root: (root / "test").mkdir(), "/test has no folders of images"),
    (
        lambda root: (root / "train").rename(root / "elsewhere"),
        "there is no folder .*/insects/train; put images into",
    ),
    (lambda root: (root / "train/bee").rename(root / "bee"), "/train has a single class"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_it_is_refused_in_one_line_and_nothing_is_stored(
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
def test_a_path_that_is_none_is_named(tmp_path: Path, given: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_training(f"folder:{given}", tmp_path)
