import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import FashionMNIST

from data import fetch
from data.datasets import (
    DATASET_NAMES,
    DataError,
    Reading,
    choose_dataset,
    default_data_dir,
    load_test,
    load_training,
    verify,
)


def test_the_data_directory_is_beside_the_package_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SEARCH_DATA_DIR", raising=False)
    assert default_data_dir() == Path(__file__).parents[2] / "data/raw"
    monkeypatch.setenv("SEARCH_DATA_DIR", "")
    assert default_data_dir() == Path(__file__).parents[2] / "data/raw"
    monkeypatch.setenv("SEARCH_DATA_DIR", "~/images")
    assert default_data_dir() == Path.home() / "images"


def test_the_choice_is_fashion_mnist_where_it_is_on_disk(small_fashion: Any) -> None:
    small_fashion.put_extracted()
    assert choose_dataset(small_fashion.data_dir) == ("fashion_mnist", None)


def test_the_choice_is_fashion_mnist_where_it_can_be_fetched(
    small_fashion: Any,
    serve: Callable[[dict[str, bytes]], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FashionMNIST, "mirrors", [serve(small_fashion.packed).url])
    assert choose_dataset(small_fashion.data_dir) == ("fashion_mnist", None)


def slow_failure(*_arguments: object, **_more: object) -> None:
    time.sleep(1.5)
    raise OSError("late")


def test_the_choice_is_digits_with_a_reason_where_neither_holds(
    small_fashion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = time.monotonic()
    name, reason = choose_dataset(small_fashion.data_dir)
    assert time.monotonic() - start < 1  # a refusal is not waited for
    assert name == "digits"
    assert reason is not None
    assert "Connection refused" in reason
    assert not small_fashion.data_dir.exists()

    monkeypatch.setattr(fetch, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr("urllib.request.urlopen", slow_failure)
    start = time.monotonic()
    name, reason = choose_dataset(small_fashion.data_dir)
    assert time.monotonic() - start < 1
    assert (name, reason is not None and "no answer within 0.3 s" in reason) == ("digits", True)


def test_the_choice_says_which_file_is_damaged(small_fashion: Any) -> None:
    small_fashion.put_packed()
    (small_fashion.raw / "train-images-idx3-ubyte.gz").write_bytes(b"no images")
    name, reason = choose_dataset(small_fashion.data_dir)
    assert name == "digits"
    assert reason is not None
    assert str(small_fashion.raw / "train-images-idx3-ubyte.gz") in reason


def test_names_load_what_they_name(small_fashion: Any, small_cifar100: Path) -> None:
    small_fashion.put_packed()
    assert small_fashion.data_dir == small_cifar100
    for name in ("fashion_mnist", "cifar100", "cifar100_coarse", "digits"):
        info, training = load_training(name, small_cifar100)
        test = load_test(name, small_cifar100)
        assert info.name == name
        assert info.training_count == len(training)
        for examples in (training, test):
            assert tuple(examples.images_NCHW.shape[1:]) == info.image_shape
            assert examples.labels_N.max() < len(info.class_names)
        assert verify(name, small_cifar100) == (info, len(test))


@pytest.mark.parametrize("name", ["imagenet", "", "Fashion-MNIST", "folder", "digits "])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str, tmp_path: Path) -> None:
    for load in (load_training, load_test):
        with pytest.raises(DataError) as caught:
            load(name, tmp_path)
        assert repr(name) in str(caught.value)
        assert all(known in str(caught.value) for known in (*DATASET_NAMES, "folder:PATH"))


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_only_folders_are_resized(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name} has its own image size; leave out 64"):
        load_training(name, tmp_path, reading=Reading(image_size=64))
