"""The same pictures are the same data; if any differ, the difference is described."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from data.datasets import load_training
from data.examples import Examples
from data.fingerprint import Fingerprint, differences, fingerprint
from data.folders.preparation import Reading
from tests.data.pets import draw, make_pets
from tests.made_up_data import made_up_info


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_pets(tmp_path / "pets", "train", "test")


def look(root: Path, *, image_size: int = 8) -> Fingerprint:
    reading = Reading(image_size=image_size)
    return fingerprint(*load_training(f"folder:{root}", root.parent / "data", reading=reading))


def test_file_names_and_location_do_not_matter(root: Path) -> None:
    before = look(root)
    assert Fingerprint.from_dict(json.loads(json.dumps(before.to_dict()))) == before
    for path in list(root.glob("*/*/*.png")):
        path.rename(path.with_stem(f"{9 - int(path.stem[-1])}-{path.stem}"))
    after = look(root.rename(root.with_name("moved")))
    assert differences(before, after) == ""


def test_changes_are_described(root: Path) -> None:
    before = look(root)
    draw(root / "train/cat/0.png", 2000)
    draw(root / "test/dog/0.png", 2001)
    exchanged = look(root)
    said = "different pictures in 'cat', different test pictures in 'dog'"
    assert differences(before, exchanged) == said
    draw(root / "train/cat/new.png", 2002)
    for gone in ("train/dog/0.png", "train/dog/1.png", "test/eel/0.png"):
        (root / gone).unlink()
    said = "13 pictures in 'cat', not 12, 8 pictures in 'dog', not 10, "
    assert differences(exchanged, look(root)) == f"{said}9 test pictures in 'eel', not 10"


def test_drawn_test_pictures_count_and_another_size_is_reported_once(root: Path) -> None:
    said = differences(look(root), look(root, image_size=9))
    assert said == "the pictures are 9x9 grey instead of 8x8 grey"
    shutil.rmtree(root / "test")
    assert {name: count for name, (count, _) in look(root).test.items()} == dict.fromkeys(
        ("cat", "dog", "eel"), 2
    )


def test_exchanged_validation_pictures_are_noticed(root: Path) -> None:
    make_pets(root, "val")
    before = look(root)
    assert Fingerprint.from_dict(json.loads(json.dumps(before.to_dict()))) == before
    one, other, aside = (root / place for place in ("train/cat/0.png", "val/cat/0.png", "aside"))
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert differences(before, look(root)) == "different pictures in its own validation set"
    earlier = Fingerprint.from_dict({**before.to_dict(), "validated": ""})
    assert differences(earlier, look(root)) == ""


def toy(names: str, labels: list[int], side: int = 2) -> Fingerprint:
    info = made_up_info(
        "toy", names, image_shape=(1, side, side), validation_count=1, training_count=len(labels)
    )
    images = torch.arange(side * side * len(labels)).to(torch.uint8).reshape(-1, 1, side, side)
    return fingerprint(info, Examples(images_NCHW=images, labels_N=torch.tensor(labels)))


def test_classes_are_compared() -> None:
    new = toy("ab", [0, 1])
    assert differences(new, toy("ba", [1, 0])) == "classes or pictures are in a different order"
    assert differences(new, toy("abcdefghijkl", [0, 1])).endswith(" and 4 more")
