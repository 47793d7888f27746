"""The same pictures are the same data; any other, and it is said what is other about them."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data.datasets import load_training
from data.examples import DatasetInfo, Examples
from data.fingerprint import Fingerprint, differences, fingerprint, rough_differences
from data.folders.preparation import Reading
from tests.data.pets import draw, make_pets


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_pets(tmp_path / "pets")
    return make_pets(tmp_path / "pets", split="test", first_seed=500)


def look(root: Path, *, image_size: int = 8) -> Fingerprint:
    info, examples = load_training(
        f"folder:{root}", root.parent / "data", reading=Reading(image_size=image_size)
    )
    return fingerprint(info, examples)


def test_it_survives_storing(root: Path) -> None:
    found = look(root)
    stored = json.loads(json.dumps(found.to_dict()))
    assert Fingerprint.from_dict(stored) == found
    assert {name: it.count for name, it in found.training.items()} == {
        "cat": 12,
        "dog": 10,
        "eel": 10,
    }


def test_names_of_files_and_place_do_not_matter(root: Path) -> None:
    before = look(root)
    for path in list(root.glob("*/*/*.png")):
        path.rename(path.with_stem(f"{9 - int(path.stem[-1])}-{path.stem}"))
    after = look(root.rename(root.with_name("moved")))
    assert after.is_same(before)
    assert differences(before, after) == ""
    assert after.order != before.order  # by which the validation images are drawn


def test_what_is_drawn_for_the_test_counts_too(root: Path) -> None:
    shutil.rmtree(root / "test")
    before = look(root)
    assert {name: it.count for name, it in before.test.items()} == {"cat": 2, "dog": 2, "eel": 2}
    (root / "train/cat").rename(root / "train/zebra")
    assert differences(before, look(root)) == "class 'zebra' is new, class 'cat' is gone"


def rename_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "cat").rename(root / split / "zebra")


def add_class(root: Path) -> None:
    for index in range(3):
        draw(root / f"train/ant/{index}.png", 2000 + index)


def remove_class(root: Path) -> None:
    shutil.rmtree(root / "train/dog")
    shutil.rmtree(root / "test/dog")


def exchange_pictures(root: Path) -> None:
    draw(root / "train/cat/0.png", 2000)
    draw(root / "test/dog/0.png", 2001)


def add_and_remove_pictures(root: Path) -> None:
    draw(root / "train/cat/new.png", 2000)
    (root / "train/dog/0.png").unlink()
    (root / "train/dog/1.png").unlink()
    (root / "test/eel/0.png").unlink()


def exchange_labels(root: Path) -> None:
    (root / "train/cat").rename(root / "train/x")
    (root / "train/dog").rename(root / "train/cat")
    (root / "train/x").rename(root / "train/dog")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename_class, "class 'zebra' is new, class 'cat' is gone"),
        (add_class, "class 'ant' is new"),
        (remove_class, "class 'dog' is gone"),
        (exchange_pictures, "other pictures in 'cat', other test pictures in 'dog'"),
        (
            add_and_remove_pictures,
            "1 more picture in 'cat', 2 fewer pictures in 'dog', 1 fewer test picture in 'eel'",
        ),
        (exchange_labels, "2 fewer pictures in 'cat', 2 more pictures in 'dog'"),
    ],
)
def test_what_has_changed_is_said(root: Path, change: Callable[[Path], None], said: str) -> None:
    before = look(root)
    change(root)
    assert differences(before, look(root)) == said


def test_another_size_is_said_once_and_not_for_each_class(root: Path) -> None:
    said = differences(look(root), look(root, image_size=9))
    assert said == "the pictures are 9x9 grey in place of 8x8 grey"


def test_another_order_of_classes_is_other_data() -> None:
    one, two = toy(("a", "b"), [0, 1]), toy(("b", "a"), [1, 0])
    assert differences(one, two) == "the classes stand in another order"


def test_of_many_differences_some_are_told() -> None:
    few = toy(("a", "b"), [0, 1])
    many = toy(tuple("abcdefghijkl"), [0, 1])
    assert differences(few, many).endswith("class 'h' is new, and 4 more")


def test_what_is_known_of_an_older_study_is_compared() -> None:
    new = toy(("a", "b"), [0, 1])
    assert rough_differences(("a", "b"), (1, 2, 2), 2, new) == ""
    said = rough_differences(("a", "c"), (3, 2, 2), 5, new)
    assert said == (
        "class 'b' is new, class 'c' is gone, the pictures are 2x2 grey in place of 2x2 RGB, "
        "3 fewer pictures"
    )


def toy(names: tuple[str, ...], labels: list[int]) -> Fingerprint:
    info = DatasetInfo(
        name="toy",
        title="Toy",
        class_names=names,
        image_shape=(1, 2, 2),
        mirror_changes_class=False,
        validation_count=1,
        training_count=len(labels),
    )
    images = torch.arange(4 * len(labels), dtype=torch.uint8).reshape(-1, 1, 2, 2)
    return fingerprint(info, Examples(images_NCHW=images, labels_N=torch.tensor(labels)))


def test_one_pixel_counts() -> None:
    one = toy(("a", "b"), [0, 1])
    assert one == toy(("a", "b"), [0, 1])
    assert not one.is_same(toy(("a", "b"), [1, 0]))
    assert not one.is_same(replace(one, image_shape=(1, 1, 4)))


def test_it_is_fast() -> None:
    """Seconds of this process alone; 0.15 were measured."""
    labels_N = torch.arange(50_000) % 10
    images = torch.randint(0, 256, (50_000, 1, 28, 28), dtype=torch.uint8)
    info = replace_names(10)
    started = time.process_time()
    fingerprint(info, Examples(images_NCHW=images, labels_N=labels_N))
    assert time.process_time() - started < 1


def replace_names(count: int) -> DatasetInfo:
    return DatasetInfo(
        name="toy",
        title="Toy",
        class_names=tuple(map(str, range(count))),
        image_shape=(1, 28, 28),
        mirror_changes_class=False,
        validation_count=1,
        training_count=50_000,
    )
