"""CIFAR as folders of pictures: the archive's classes in the archive's order, checked."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR100

from data.datasets import default_data_dir, load_test, load_training
from data.errors import DataError
from data.fingerprint import differences, fingerprint
from data.folders import cache, cifar
from tests.data.pets import colour, save

# The super-class of each of the 100 classes, as in the batches that Krizhevsky published.
COARSE = """
4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7
6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13 14 17 18 10
16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16
12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2 15 6 0 17 8 14 13
"""


def make(root: Path, source: str) -> None:
    """Two training pictures and one test picture of each class."""
    for label, name in enumerate(cifar.CLASSES[source]):
        for index, split in enumerate(("train", "train", "test")):
            save(root / split / name / f"{name}_s_{index}.png", colour(10 * label + index, 32, 32))


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "WORTH", 1)
    monkeypatch.setattr(cifar, "COUNTS", {"train": 200, "test": 100})
    make(tmp_path / "data/cifar100", "CIFAR100")
    return tmp_path / "data"


def test_pictures_and_labels_are_those_of_the_files(data_dir: Path) -> None:
    info, training = load_training("cifar100", data_dir)
    again, kept = load_training("cifar100", data_dir)
    assert (again, info.class_names) == (info, cifar.CLASSES["CIFAR100"])
    assert torch.equal(kept.images_NCHW, training.images_NCHW)
    assert training.labels_N.tolist() == [k for k in range(100) for _ in range(2)]
    file = data_dir / "cifar100/train/aquarium_fish/aquarium_fish_s_1.png"
    reference = np.asarray(Image.open(file)).transpose(2, 0, 1)
    assert np.array_equal(training.images_NCHW[3].numpy(), reference)
    coarse, by_super_class = load_training("cifar100_coarse", data_dir)
    assert torch.equal(by_super_class.images_NCHW, training.images_NCHW)
    assert by_super_class.labels_N[::2].tolist() == [int(label) for label in COARSE.split()]
    assert (coarse.class_names[4], len(coarse.class_names)) == ("fruit_and_vegetables", 20)
    assert load_test("cifar100_coarse", data_dir).labels_N.bincount().tolist() == [5] * 20
    assert "read from the pictures in" in info.notes[0]


def test_other_pictures_are_refused(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move(data_dir / "cifar100/train/bear", data_dir / "cifar100/train/unicorn")
    with pytest.raises(DataError, match=r"of CIFAR100: bear, unicorn; put pictures .*apple, a"):
        load_training("cifar100", data_dir)
    assert len(load_test("cifar100", data_dir)) == 100  # which training did not read
    make(data_dir / "cifar10", "CIFAR10")
    with pytest.raises(DataError, match="holds 20 pictures, but CIFAR10 has 200"):
        load_training("cifar10", data_dir)
    monkeypatch.setattr(cifar, "COUNTS", {"train": 20, "test": 10})
    for load in (load_training, load_test):
        for _ in range(2):  # decoded, then cached
            with pytest.raises(DataError, match=r"not hold the pictures of CIFAR10 \(the SHA"):
                load("cifar10", data_dir)


def test_the_archive_takes_precedence_and_counts_as_different_data(
    small_cifar100: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "COUNTS", {"train": 200, "test": 100})
    info, training = load_training("cifar100", small_cifar100)
    make(small_cifar100 / "cifar100", "CIFAR100")
    assert torch.equal(
        load_training("cifar100", small_cifar100)[1].images_NCHW, training.images_NCHW
    )
    (small_cifar100 / CIFAR100.filename).unlink()
    pictures, _ = load_training("cifar100", small_cifar100)
    # The same pictures in another order would be divided differently.
    same = fingerprint(info, training)
    other = fingerprint(replace(info, test_digests=pictures.test_digests), training)
    assert differences(same, other) == "classes or pictures are in a different order"
    shutil.rmtree(small_cifar100 / "cifar100")
    with pytest.raises(DataError, match=r"put good .*/cifar100/train/<class>/ and test/<class>/"):
        load_training("cifar100", small_cifar100)


@pytest.mark.skipif(
    not cifar.stand_in("CIFAR10", default_data_dir()), reason="no pictures of CIFAR-10"
)
def test_cifar10_itself() -> None:
    info, training = load_training("cifar10", default_data_dir())
    assert training.labels_N.bincount().tolist() == [5000] * 10
    mean = training.images_NCHW.double().mean((0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)  # well known
    assert (info.class_names[0], info.mirror_changes_class) == ("airplane", False)
