"""The registry of data sets, and how each form of a name is resolved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import FashionMNIST

from data.datasets import (
    DATASETS,
    FORMS,
    canonical_name,
    choose_dataset,
    count_test,
    dataset_choices,
    default_data_dir,
    find_dataset,
    from_arrays,
    load_test,
    load_training,
)
from data.errors import DataError
from data.folders.preparation import Reading


def test_the_data_directory_is_beside_the_package_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEARCH_DATA_DIR", "")
    assert default_data_dir() == Path(__file__).parents[2] / "data/raw"
    monkeypatch.setenv("SEARCH_DATA_DIR", "~/images")
    assert default_data_dir() == Path.home() / "images"


def test_a_custom_entry_is_a_data_set_like_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[bool] = []

    def load(train: bool, _data_dir: Path) -> Any:
        asked.append(train)
        labels = np.arange(40 if train else 12) % 4
        images = np.zeros((len(labels), 8, 9, 3), dtype=np.uint8)
        images[np.arange(len(labels)), labels] = 255
        return images, labels, ["top", "upper", "lower", "bottom"]

    entry = from_arrays(load, title="Stripes", description="made up", validation_count=12)
    monkeypatch.setitem(DATASETS, "stripes", entry)
    info, training = load_training("stripes", tmp_path)
    assert asked == [True]
    assert (info.name, info.title, info.image_shape) == ("stripes", "Stripes", (3, 8, 9))
    assert (info.training_count, info.validation_count) == (40, 12)
    assert training.images_NCHW[1, :, 1].min() == 255
    assert count_test("stripes", tmp_path) == 12
    assert "stripes" in dataset_choices()
    with pytest.raises(DataError, match="stripes has its own image size; leave out 64"):
        load_training("stripes", tmp_path, reading=Reading(image_size=64))


def test_fashion_mnist_is_chosen_if_it_is_available(
    small_fashion: Any, serve: Callable[[dict[str, bytes]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, reason = choose_dataset(small_fashion.data_dir)
    assert (name, "Connection refused" in str(reason)) == ("digits", True)
    serve(small_fashion.packed)
    assert choose_dataset(small_fashion.data_dir) == ("fashion_mnist", None)
    monkeypatch.setattr(FashionMNIST, "mirrors", [])
    assert choose_dataset(small_fashion.data_dir) == ("fashion_mnist", None)
    damaged = small_fashion.raw / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(b"no images")
    name, reason = choose_dataset(small_fashion.data_dir)
    assert (name, damaged.name in str(reason)) == ("digits", True)


@pytest.mark.parametrize("name", ["imagenet", "", "folder", "npz:"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str, tmp_path: Path) -> None:
    for ask in (load_training, load_test):
        with pytest.raises(DataError) as caught:
            ask(name, tmp_path)
        assert repr(name) in str(caught.value)
        assert all(known in str(caught.value) for known in (*DATASETS, *FORMS))


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path)
    for given, expected in (
        ("folder:pets", f"folder:{tmp_path}/pets"),
        ("folder:~/x/../pets", f"folder:{tmp_path}/pets"),
        ("folder:link/pets", f"folder:{tmp_path}/pets"),
        ("npz:a.npz", f"npz:{tmp_path}/a.npz"),
        ("mine.py:load", f"{tmp_path}/mine.py:load"),
    ):
        assert canonical_name(given) == canonical_name(expected) == expected
        assert find_dataset(given).path is not None
    assert find_dataset("digits").path is None
