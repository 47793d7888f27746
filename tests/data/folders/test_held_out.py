"""A held-out test picture stays out of training, however it is renamed or moved."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from data.datasets import load_test, load_training
from data.errors import DataError
from data.folders.folder import read_layout
from data.folders.held_out import keep, record_test
from tests.data.pets import SIZES, draw, make_pets


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_pets(tmp_path / "pets")


@pytest.fixture
def held(root: Path, tmp_path: Path) -> set[bytes]:
    """The contents of the files that the first study holds out."""
    drawn = read_layout(root, tmp_path / "data").test_digests
    record_test(root, drawn, tmp_path / "data")
    return contents(root, drawn)


def contents(root: Path, files: Iterable[str]) -> set[bytes]:
    return {(root / file).read_bytes() for file in files}


def check(root: Path, data_dir: Path, test: set[bytes]) -> None:
    layout = read_layout(root, data_dir)
    assert contents(root, layout.test_digests) == test
    assert not contents(root, layout.images) & test
    labels = load_test(f"folder:{root}", data_dir).labels_N.tolist()
    names = [layout.class_names[label] for label in labels]
    assert names == [file.split("/")[1] for file in layout.test_digests]


def test_a_choice_that_no_study_has_made_final_is_drawn_anew(root: Path, tmp_path: Path) -> None:
    first = read_layout(root, tmp_path / "data").test_digests
    assert first == read_layout(root, tmp_path / "data").test_digests
    for load in (load_training, load_test):
        load(f"folder:{root}", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    for seed in range(1000, 1100):
        draw(root / f"train/dog/{seed}.png", seed)
    drawn = read_layout(root, tmp_path / "data").test_digests
    assert len(drawn) == round(0.2 * (sum(SIZES.values()) + 100))
    record_test(root, drawn, tmp_path / "data")
    record_test(root, {}, tmp_path / "data")  # changes nothing
    draw(root / "train/dog/late.png", 1100)
    assert read_layout(root, tmp_path / "data").test_digests == drawn


def change_classes(root: Path) -> Path:
    """Relabels most cats as dogs, held-out ones included."""
    for path in list((root / "train/cat").iterdir())[:-3]:
        path.rename(root / "train/dog" / f"was-cat-{path.name}")
    return root


def move_and_rename(root: Path) -> Path:
    root = root.rename(root.with_name("moved"))
    (root / "train/cat").rename(root / "train/zebra")
    for path in list((root / "train").glob("*/*.png")):
        path.rename(path.with_stem(f"picture-{path.stem}"))
    return root


def copy(root: Path) -> Path:
    return shutil.copytree(root, root.with_name("copy"))


@pytest.mark.parametrize("change", [change_classes, move_and_rename, copy])
def test_held_out_pictures_are_recognised_here_and_from_a_studys_record(
    change: Callable[[Path], Path], root: Path, tmp_path: Path, held: set[bytes]
) -> None:
    assert len(held) == round(0.2 * sum(SIZES.values()))
    record = load_training(f"folder:{root}", tmp_path / "data")[0].test_digests
    changed = change(root)
    for seed in range(1000, 1020):
        draw(changed / f"train/dog/0{seed}.png", seed)
    for _ in range(2):
        check(changed, tmp_path / "data", held)
    keep(changed, record, tmp_path / "other")
    check(changed, tmp_path / "other", held)


def test_a_file_that_replaces_a_held_out_one_is_held_out_as_well(
    root: Path, tmp_path: Path, held: set[bytes]
) -> None:
    names = sorted((root / "train/dog").iterdir())
    before = [path.read_bytes() for path in names]
    for path, content in zip(names, before[1:] + before[:1], strict=True):
        path.write_bytes(content)
    layout = read_layout(root, tmp_path / "data")
    assert contents(root, layout.test_digests) >= held
    assert not contents(root, layout.images) & held


def add_copies(root: Path) -> None:
    for path in list((root / "train").glob("*/*.png")):
        for number in range(4):
            shutil.copyfile(path, path.with_stem(f"{path.stem} ({number})"))


def test_copies_of_test_pictures_are_test_pictures_and_their_share_stays(
    root: Path, tmp_path: Path
) -> None:
    add_copies(root)
    layout = read_layout(root, tmp_path / "data")
    test = contents(root, layout.test_digests)
    assert len(test) == round(0.2 * sum(SIZES.values()))
    assert len(layout.test_digests) == 5 * len(test)
    check(root, tmp_path / "data", test)


def test_a_copy_added_later_is_held_out_but_not_by_studies_from_before(
    root: Path, tmp_path: Path, held: set[bytes]
) -> None:
    before = read_layout(root, tmp_path / "data", version=3)
    add_copies(root)
    check(root, tmp_path / "data", held)
    older = read_layout(root, tmp_path / "data", version=3)
    assert older.test_digests == before.test_digests
    assert f"copies of test pictures in training or validation: {4 * len(held)}" in str(older.notes)


def test_a_study_from_before_draws_again_what_it_drew_where_there_are_copies(
    root: Path, tmp_path: Path
) -> None:
    """As in commit 5623a25."""
    add_copies(root)
    files = list(read_layout(root, tmp_path / "data", version=3).test_digests)
    assert (len(files), files[:3]) == (
        32,
        ["train/cat/0 (0).png", "train/cat/0 (3).png", "train/cat/1.png"],
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_copies_of_the_users_own_test_pictures_are_counted(root: Path, split: str) -> None:
    make_pets(root, "test", "val")
    assert "copies" not in str(read_layout(root, root.parent).notes)
    shutil.copyfile(root / "test/cat/0.png", root / split / "dog/x.png")
    assert "warning: copies of test pictures in training or validation: 1" in str(
        read_layout(root, root.parent).notes
    )


@pytest.mark.parametrize("content", ["", "[]", '{"test": "ant"}', '{"test": [1]}', "[" * 9999])
def test_a_damaged_record_is_named_and_never_replaced(
    root: Path, tmp_path: Path, held: set[bytes], content: str
) -> None:
    [stored] = (tmp_path / "data/folders").iterdir()
    whole = stored.read_text()
    stored.write_text(content)
    with pytest.raises(DataError, match=f"{stored}, which names .* is damaged"):
        read_layout(root, tmp_path / "data")
    stored.write_text(whole)
    for path in list((root / "train").glob("*/*")):
        if path.read_bytes() in held:
            path.unlink()
    with pytest.raises(DataError, match="none of the test images"):
        read_layout(root, tmp_path / "data")


@pytest.mark.usefixtures("held")
def test_a_record_that_cannot_be_read_is_not_called_damaged(root: Path, tmp_path: Path) -> None:
    """It may be another account's: to delete it would give up the test images."""
    [stored] = (tmp_path / "data/folders").iterdir()
    stored.unlink()
    stored.mkdir()  # root may read any file
    with pytest.raises(DataError, match=f"cannot read {stored} .* make it readable") as caught:
        read_layout(root, tmp_path / "data")
    assert "delete" not in str(caught.value)


def test_a_record_that_cannot_be_stored_is_an_error_with_a_way_out(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file where a directory is wanted")
    drawn = load_training(f"folder:{root}", tmp_path / "data")[0].test_digests
    with pytest.raises(DataError, match=f"cannot store .* make {root / 'test'} yourself"):
        record_test(root, drawn, tmp_path / "data")
