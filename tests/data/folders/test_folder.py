import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.datasets import canonical_name, load_test, load_training, verify
from data.errors import DataError
from data.examples import split
from data.folders.layout import read_layout
from data.folders.preparation import Reading

CLASSES = ("cat", "dog", "eel")


def draw(path: Path, level: int, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (6, 9), level if mode == "L" else (level, 0, 0)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """20 cats, 10 dogs, 10 eels; the level of grey is the number of the file."""
    for name, count in zip(CLASSES, (20, 10, 10), strict=True):
        for index in range(count):
            draw(tmp_path / f"pets/train/{name}/{index}.png", index)
    return tmp_path / "pets"


def level_and_label(root: Path, data_dir: Path, load: Callable) -> set[tuple[int, int]]:  # type: ignore[type-arg]
    loaded = load(f"folder:{root}", data_dir, reading=Reading(image_size=4))
    examples = loaded[1] if isinstance(loaded, tuple) else loaded
    levels = examples.images_NCHW.flatten(1).amax(1).tolist()
    return set(zip(levels, examples.labels_N.tolist(), strict=True))


def test_a_folder_with_its_own_test_images(root: Path, tmp_path: Path) -> None:
    for index in range(4):
        draw(root / f"test/dog/{index}.png", 100 + index)
    info, training = load_training(f"folder:{root}", tmp_path / "data")
    assert info.name == f"folder:{root}"
    assert info.title == "pets"
    assert info.class_names == CLASSES
    assert info.image_shape == (1, 8, 8)  # the pictures are 6 x 9
    assert (info.training_count, info.validation_count) == (40, 8)
    assert training.labels_N.tolist() == [0] * 20 + [1] * 10 + [2] * 10
    assert level_and_label(root, tmp_path, load_test) == {(100 + i, 1) for i in range(4)}
    assert not (tmp_path / "data").exists()
    assert verify(f"folder:{root}", tmp_path / "data") == (info, 4)


def test_a_fifth_is_held_out_by_class_for_good(root: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    everything = {(i, k) for k, count in enumerate((20, 10, 10)) for i in range(count)}
    training = level_and_label(root, data_dir, load_training)
    test = level_and_label(root, data_dir, load_test)
    assert training | test == everything
    assert not training & test
    assert sorted(label for _, label in test) == [0, 0, 0, 0, 1, 1, 2, 2]

    for index in range(30):
        draw(root / f"train/cat/0{index}new.png", 100 + index)
    assert level_and_label(root, data_dir, load_test) == test
    more = level_and_label(root, data_dir, load_training)
    assert more == training | {(100 + index, 0) for index in range(30)}


def test_the_same_files_are_held_out_wherever_they_are_stored(root: Path, tmp_path: Path) -> None:
    here = read_layout(root, tmp_path / "here")
    there = read_layout(root, tmp_path / "there")
    assert here == there
    moved = root.rename(tmp_path / "moved")
    assert read_layout(moved, tmp_path / "here").test == here.test


def test_a_folder_has_one_name_however_it_is_given(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    monkeypatch.setenv("HOME", str(root.parent))
    (tmp_path / "link").symlink_to(root)
    for given in ("pets", "./pets/../pets", "~/pets", str(tmp_path / "link")):
        info, _ = load_training(f"folder:{given}", tmp_path / "data")
        assert info.name == canonical_name(f"folder:{given}") == f"folder:{root}"
    assert canonical_name("digits") == "digits"
    assert len(list((tmp_path / "data/folders").iterdir())) == 1


def test_training_opens_no_test_image(root: Path, tmp_path: Path) -> None:
    layout = read_layout(root, tmp_path)
    for file in layout.test:
        (root / file).write_bytes(b"never read")
    load_training(f"folder:{root}", tmp_path)
    with pytest.raises(DataError, match="cannot be read as a picture"):
        load_test(f"folder:{root}", tmp_path)


def test_colour_in_one_training_image_makes_all_rgb_and_in_a_test_image_none(
    root: Path, tmp_path: Path
) -> None:
    draw(root / "test/cat/red.png", 200, "RGB")
    assert load_training(f"folder:{root}", tmp_path)[1].images_NCHW.shape[1] == 1
    assert load_test(f"folder:{root}", tmp_path).images_NCHW.shape[1] == 1
    draw(root / "train/cat/red.png", 200, "RGB")
    info, training = load_training(f"folder:{root}", tmp_path, reading=Reading(image_size=5))
    assert info.image_shape == (3, 5, 5)
    assert training.images_NCHW.shape == (41, 3, 5, 5)
    test = load_test(f"folder:{root}", tmp_path, reading=Reading(image_size=5))
    assert torch.equal(test.images_NCHW[0, :, 0, 0], torch.tensor([200, 0, 0], dtype=torch.uint8))


def test_hidden_files_and_what_lies_beside_the_classes_is_left_out(
    root: Path, tmp_path: Path
) -> None:
    before = read_layout(root, tmp_path)
    (root / "train/cat/.DS_Store").write_text("")
    (root / "train/.cache").mkdir()
    (root / "train/readme.txt").write_text("")
    after = read_layout(root, tmp_path)
    assert (after.training, after.test) == (before.training, before.test)


@pytest.mark.parametrize(
    ("names", "mirror_changes_class"),
    [("012", True), ("abc", True), (("cat", "dog"), False), (("a", "dog"), False), ("+-", False)],
)
def test_letters_and_digits_are_not_to_be_mirrored(
    tmp_path: Path, names: tuple[str, ...], mirror_changes_class: bool
) -> None:
    for name in names:
        for index in range(5):
            draw(tmp_path / f"train/{name}/{index}.png", index)
    info, _ = load_training(f"folder:{tmp_path}", tmp_path / "data")
    assert info.mirror_changes_class == mirror_changes_class


def test_hostile_class_names_are_kept_as_they_are(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>".replace("/", "∕"), "a b ", "Łódź", "喵"]
    for name in names:
        for index in range(3):
            draw(tmp_path / f"train/{name}/{index}.png", index)
    info, _ = load_training(f"folder:{tmp_path}", tmp_path / "data")
    assert info.class_names == tuple(sorted(names))


@pytest.mark.parametrize("count", [3, 4, 7])
@pytest.mark.parametrize("classes", [2, 12])
def test_few_images_a_class_still_divide_with_each_class_in_each_part(
    tmp_path: Path, classes: int, count: int
) -> None:
    for label in range(classes):
        for index in range(count):
            draw(tmp_path / f"train/class {label}/{index}.png", index)
    info, training = load_training(f"folder:{tmp_path}", tmp_path / "data")
    test = load_test(f"folder:{tmp_path}", tmp_path / "data")
    parts = (*split(training, validation_count=info.validation_count, seed=0), test)
    assert sum(map(len, parts)) == classes * count
    for part in parts:
        assert len(set(part.labels_N.tolist())) == classes


def remove_train(root: Path) -> None:
    (root / "train").rename(root / "elsewhere")


def leave_one_class(root: Path) -> None:
    (root / "train/cat").rename(root / "cat")
    (root / "train/dog").rename(root / "dog")


def empty_class(root: Path) -> None:
    (root / "train/fox").mkdir()


def two_images(root: Path) -> None:
    for index in range(2):
        draw(root / f"train/fox/{index}.png", index)


def one_image_beside_a_test_set(root: Path) -> None:
    draw(root / "train/fox/0.png", 0)
    draw(root / "test/cat/0.png", 0)


def class_unknown_to_training(root: Path) -> None:
    draw(root / "test/fox/0.png", 0)


def empty_test(root: Path) -> None:
    (root / "test").mkdir()


def nested_folder(root: Path) -> None:
    draw(root / "train/cat/siamese/0.png", 0)


def page_in_place_of_a_picture(root: Path) -> None:
    (root / "train/cat/page.jpg").write_text("<html>404 Not Found</html>")


def control_character(root: Path) -> None:
    draw(root / "train/fox\x1b[31m/0.png", 0)


def line_break_in_a_file_name(root: Path) -> None:
    draw(root / "train/cat/one\ntwo.png", 0)


def no_text(root: Path) -> None:
    (root / "train" / b"f\xffx".decode(errors="surrogateescape")).mkdir()


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (remove_train, "there is no folder .*/pets/train; put images into"),
        (leave_one_class, "/pets/train has a single class"),
        (empty_class, "/pets/train/fox has no images"),
        (two_images, "class 'fox' .* has 2 images .* at least 3"),
        (one_image_beside_a_test_set, "class 'fox' .* has 1 images .* at least 2"),
        (class_unknown_to_training, "class 'fox' of .*/pets/test is not in"),
        (empty_test, "/pets/test has no folders of images"),
        (nested_folder, "/pets/train/cat/siamese is not a file"),
        (page_in_place_of_a_picture, "/pets/train/cat/page.jpg cannot be read as a picture"),
        (control_character, r"/fox\\x1b\[31m: the name has control characters"),
        (line_break_in_a_file_name, r"/one\\ntwo.png: the name has control characters"),
        (no_text, r"/pets/train/f\\xffx: the name has control characters or is no text in UTF-8"),
    ],
)
def test_unfit_folders_are_refused_in_one_line(
    root: Path, tmp_path: Path, break_it: Callable[[Path], None], named: str
) -> None:
    break_it(root)
    with pytest.raises(DataError, match=named) as caught:
        load_training(f"folder:{root}", tmp_path / "data")
    assert "\n" not in str(caught.value)
    if break_it is not page_in_place_of_a_picture:
        assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("", "lacks its path; choose .*folder:PATH"),
        ("/nowhere/at/all", "no folder /nowhere/at/all/train"),
        ("~nobody-of-this-name/pets", "cannot find ~nobody-of-this-name/pets"),
        ("a" * 5000, "cannot (read|find) .*aaa"),
        ("pets\0", "control characters"),
    ],
)
def test_a_folder_that_is_none_is_named(tmp_path: Path, given: str, named: str) -> None:
    with pytest.raises(DataError, match=named):
        load_training(f"folder:{given}", tmp_path)


@pytest.mark.parametrize("size", [0, -1, 5000])
def test_sizes_out_of_range_are_refused(root: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises(DataError, match=f"image size {size} is not between 1 and 1024"):
        load_training(f"folder:{root}", tmp_path, reading=Reading(image_size=size))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"test": 3}', '{"test": [1]}', '{"folder": "/"}', "[" * 9999]
)
def test_a_damaged_store_is_named_and_never_drawn_anew(
    root: Path, tmp_path: Path, content: str
) -> None:
    read_layout(root, tmp_path / "data")
    [stored] = (tmp_path / "data/folders").iterdir()
    stored.write_text(content)
    with pytest.raises(DataError, match=str(stored)):
        read_layout(root, tmp_path / "data")
    assert stored.read_text() == content


def test_a_store_that_is_no_file_is_named(root: Path, tmp_path: Path) -> None:
    read_layout(root, tmp_path / "data")
    [stored] = (tmp_path / "data/folders").iterdir()
    stored.unlink()
    os.mkfifo(stored)
    with pytest.raises(DataError, match=str(stored)):
        read_layout(root, tmp_path / "data")


def test_a_store_whose_images_are_all_gone_is_named(root: Path, tmp_path: Path) -> None:
    layout = read_layout(root, tmp_path / "data")
    for file in layout.test:
        (root / file).unlink()
    with pytest.raises(DataError, match="none of the test images"):
        read_layout(root, tmp_path / "data")


def test_the_store_says_whose_it_is(root: Path, tmp_path: Path) -> None:
    layout = read_layout(root, tmp_path / "data")
    [stored] = (tmp_path / "data/folders").iterdir()
    content = json.loads(stored.read_text())
    assert (content["folder"], content["test"]) == (str(root), list(layout.test))


def test_a_store_that_cannot_be_written_is_an_error_with_a_way_out(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file where a directory is wanted")
    with pytest.raises(DataError, match=f"cannot store .* make {root / 'test'} yourself"):
        load_training(f"folder:{root}", tmp_path / "data")


def test_the_images_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    layout = read_layout(root, tmp_path)
    _, training = load_training(f"folder:{root}", tmp_path, reading=Reading(image_size=9))
    for file, image_CHW, label in zip(
        layout.training, training.images_NCHW, training.labels_N.tolist(), strict=True
    ):
        reference = np.asarray(Image.open(root / file).resize((9, 9), Image.Resampling.BILINEAR))
        assert np.array_equal(image_CHW[0].numpy(), reference)
        assert f"/{CLASSES[label]}/" in file
