"""Data sets that come as arrays: .npz archives, and functions in the user's own file."""

import re
import zipfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from data.datasets import DATASETS, find_dataset, from_arrays, load_test, load_training
from data.errors import DataError
from data.extensions import load_function
from data.fingerprint import fingerprint

RANDOM = np.random.default_rng(0)


def images(count: int, *shape: int, dtype: str = "uint8", high: int = 256) -> np.ndarray:
    return RANDOM.integers(0, high, (count, *(shape or (6, 5)))).astype(dtype)


def labels(count: int, classes: int = 3) -> np.ndarray:
    return np.arange(count) % classes


def plain(**changes: Any) -> dict[str, Any]:
    arrays = {"x_train": images(30), "y_train": labels(30)}
    arrays |= {"x_test": images(9), "y_test": labels(9), **changes}
    return {key: array for key, array in arrays.items() if array is not None}


def medmnist(**changes: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", 30), ("val", 6), ("test", 9)):
        arrays[f"{part}_images"] = images(count, 6, 5, 3)
        arrays[f"{part}_labels"] = labels(count)[:, None].astype(np.uint8)
    return {**arrays, **changes}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def test_an_archive_with_plain_keys(path: Path) -> None:
    arrays = plain(class_names=np.array(["ant", "bee", "<c>"]))
    np.savez_compressed(path, **arrays)
    info, training = load_training(f"npz:{path}", path.parent)
    assert (info.name, info.title) == (f"npz:{path}", "mine")
    assert info.class_names == ("ant", "bee", "<c>")
    assert (info.image_shape, info.training_count, info.validation_count) == ((1, 6, 5), 30, 6)
    assert np.array_equal(training.images_NCHW[:, 0], arrays["x_train"])
    assert load_test(f"npz:{path}", path.parent).labels_N.tolist() == arrays["y_test"].tolist()


def test_an_archive_of_medmnist_has_its_own_validation_images(path: Path) -> None:
    arrays = medmnist()
    np.savez(path, **arrays)
    info, training = load_training(f"npz:{path}", path.parent)
    assert (info.has_own_validation, info.validation_count) == (True, 6)
    assert info.class_names == ("0", "1", "2")
    together = np.concatenate([arrays["train_images"], arrays["val_images"]])
    assert np.array_equal(training.images_NCHW.permute(0, 2, 3, 1), together)
    assert len(load_test(f"npz:{path}", path.parent)) == 9


def test_an_archive_with_text_in_bytes_and_without_validation_images(path: Path) -> None:
    arrays = medmnist(val_images=np.zeros((0, 6, 5, 3)), val_labels=labels(0))
    np.savez(path, **arrays, class_names=np.array([b"ant", "bée".encode(), b"\xff"]))
    info, training = load_training(f"npz:{path}", path.parent)
    assert info.class_names == ("ant", "bée", "\\xff")
    assert (info.has_own_validation, info.validation_count, len(info.notes)) == (False, 6, 1)
    assert np.array_equal(training.images_NCHW.permute(0, 2, 3, 1), arrays["train_images"])


def test_classes_without_training_images_are_named(path: Path) -> None:
    def warnings() -> list[str]:
        info, _ = load_training(f"npz:{path}", path.parent)
        return [note for note in info.notes if "warning" in note]

    np.savez(path, **plain(y_train=labels(30) + 1))
    assert warnings() == ["warning: no training images of class '0'"]
    np.savez(path, **plain(class_names=np.arange(26)))
    [said] = warnings()
    assert re.search("class '3', '4', .*, '22' and 3 more$", said)
    few = np.zeros((30, 1), int)
    few[:15] = 2
    np.savez(path, **medmnist(train_labels=few))  # the archive's validation images show 1
    assert warnings() == ["warning: no training images of class '1'"]
    np.savez(path, **plain())
    assert warnings() == []


def test_training_reads_no_test_array_but_notices_changes_to_it(path: Path) -> None:
    np.savez(path, **plain())
    before, _ = load_training(f"npz:{path}", path.parent)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("x_test.npy")
    content[entry.header_offset + entry.file_size // 2 + 60] ^= 1
    path.write_bytes(content)
    info, examples = load_training(f"npz:{path}", path.parent)
    assert info == before
    with pytest.raises(DataError, match="Bad CRC-32"):
        load_test(f"npz:{path}", path.parent)
    assert find_dataset(f"npz:{path}").has_same_test(info, path.parent)
    np.savez(path, **plain(y_test=labels(9)[::-1]))
    assert not find_dataset(f"npz:{path}").has_same_test(info, path.parent)
    assert fingerprint(info, examples).test != fingerprint(*load_training(f"npz:{path}", path)).test


@pytest.mark.parametrize(
    ("train", "test", "white"),
    [
        (images(30, dtype="uint16", high=4000), images(9, dtype="uint16", high=4000), 4095),
        (images(30) / 255, images(9) / 255, 1),
        (images(30, high=2).astype(bool), images(9, high=2).astype(bool), 1),
        # Integers of another width in either part mean the same.
        *(
            (images(30).astype(train), images(9).astype(test), 255)
            for train, test in product(("uint8", ">i4"), ("uint8", "<i2", ">i2", ">u4", "int64"))
        ),
    ],
)
def test_other_number_types_are_scaled_alike_in_training_and_test(
    path: Path, train: np.ndarray, test: np.ndarray, white: float
) -> None:
    np.savez(path, **plain(x_train=train, x_test=test))
    for loaded, given in (
        (load_training(f"npz:{path}", path.parent)[1], train),
        (load_test(f"npz:{path}", path.parent), test),
    ):
        expected = np.rint(given.astype(float) * 255 / white)
        assert np.array_equal(loaded.images_NCHW[:, 0], expected)


def test_bytes_that_are_too_dark_to_see_are_mentioned(path: Path) -> None:
    """They are not scaled, but a picture that shows the same would be 255 times as bright."""
    for high, dtype, noted in ((2, "uint8", True), (2, "int64", False), (200, "uint8", False)):
        found = images(30, high=high, dtype=dtype)
        np.savez(path, **plain(x_train=found, x_test=found[:9]))
        notes = load_training(f"npz:{path}", path.parent)[0].notes
        assert any("no level above 1, so" in note for note in notes) == noted


RAMP = (np.arange(900) % 256).astype("uint8").reshape(30, 6, 5)  # each a part of the levels
FEW, MASKS = RAMP[:9], RAMP % 2 == 1


@pytest.mark.parametrize(
    ("train", "others", "ranges"),
    [
        (RAMP / 255, FEW / 1, "0 to 1 but {} images from 0 to 255"),
        (RAMP / 1, FEW / 255, "0 to 255 but {} images from 0 to 1"),
        (RAMP, FEW.astype("uint16") * 257, "0 to 255 but {} images from 0 to 65535"),
        (MASKS, MASKS[:9].astype("uint8"), "0 to 255 but {} images from 0 to 1"),
        (RAMP / 127.5 - 1, FEW / 1, "-1 to 1 but {} images from 0 to 255"),
    ],
)
def test_images_in_another_unit_than_training_s_are_refused(
    path: Path,
    train: np.ndarray,
    others: np.ndarray,
    ranges: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(is_train: bool, _: Path) -> Any:
        return train if is_train else others, labels(30 if is_train else len(others)), "abc"

    monkeypatch.setitem(DATASETS, "mine", from_arrays(load, title="Mine"))
    with pytest.raises(DataError, match=f"{ranges.format('test')}.*; scale both alike"):
        load_test("mine", path.parent)
    np.savez(path, **plain(x_train=train, x_test=others, y_test=labels(len(others))))
    with pytest.raises(DataError, match=f"mine.npz: .*{ranges.format('test')}"):
        load_test(f"npz:{path}", path.parent)
    if train.dtype != bool:  # NumPy joins them to numbers from 0 to 1, as the others are
        own = {"x_val": others, "y_val": labels(len(others))}
        np.savez(path, **plain(x_train=train, **own))
        with pytest.raises(DataError, match=f"mine.npz: .*{ranges.format('validation')}"):
            load_training(f"npz:{path}", path.parent)


BRIGHT = images(30)
STARS = np.zeros((30, 6, 5), "uint16")
STARS[:, 2, 2] = np.geomspace(3, 65535, 30)


@pytest.mark.parametrize(
    ("train", "others"),
    [
        (BRIGHT, images(9, high=128)),
        (images(30, high=128) / 255, images(9) / 255),
        (BRIGHT / 255, images(9) / 250),  # above white
        (BRIGHT, np.zeros((9, 6, 5), "uint8")),
        (BRIGHT, images(2, high=3)),
        (STARS, STARS[:2]),  # the dimmest alone
        (STARS[:20], STARS[20:]),  # and the brightest
        (np.where(np.arange(30)[:, None, None] < 3, 65535, images(30)), images(9)),  # hot pixels
        (BRIGHT / 1, np.where(np.arange(9)[:, None, None] < 2, 1e6, images(9))),
    ],
)
def test_darker_brighter_and_sparse_images_are_in_the_same_unit(
    path: Path, train: np.ndarray, others: np.ndarray
) -> None:
    own = {"x_val": others, **dict.fromkeys(("y_val", "y_test"), labels(len(others)))}
    np.savez(path, **plain(x_train=train, y_train=labels(len(train)), x_test=others, **own))
    assert len(load_training(f"npz:{path}", path.parent)[1]) == len(train) + len(others)
    assert len(load_test(f"npz:{path}", path.parent)) == len(others)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (plain(x_test=None, y_test=None), "has the keys x_train, y_train and lacks x_test, y_test"),
        ({"a": images(3)}, "lacks x_train, y_train, x_test, y_test; save x_train"),
        (plain(x_train=images(30, 6, 5, 2)), r"shape \(30, 6, 5, 2\) and type uint8"),
        (plain(x_train=images(0)), r"have shape \(0, 6, 5\) .* give numbers of shape"),
        (plain(x_train=images(30).astype("<U3")), "have shape .* and type <U3"),
        (plain(x_train=np.full((30, 6, 5), np.nan)), "the images .* are not finite"),
        (plain(y_train=labels(29)), r"labels have shape \(29,\), .* give 30 integers from 0 to 2"),
        (plain(y_train=labels(30) / 1), "labels have .* type float64"),
        (plain(y_train=np.array(["a", "b", "c"])[labels(30)]), "type <U1 .* a, b, c; give 30 int"),
        (plain(y_train=labels(30) / 1 + np.nan), "type float64 and values nan; give 30"),
        (plain(y_train=labels(30) - 1), "values -1, 0, 1; give 30 integers from 0 to 1"),
        (plain(class_names=np.array(["a", "b", "a"])), "class names a, b, a cannot be used"),
        (plain(y_train=labels(30) * 0), "class names 0 cannot be used; give at least two"),
        (plain(x_train=np.array([None] * 30)), "Object arrays cannot be loaded"),
        (
            medmnist(val_images=images(6, 5, 5, 3)),
            r"val_images has shape \(6, 5, 5, 3\), but for training it is \(30, 6, 5, 3\); give",
        ),
        (plain(x_val=images(6, 6, 5, 1), y_val=labels(6)), r"x_val has .* is \(30, 6, 5\); give"),
        (plain(x_val=np.uint8(3), y_val=labels(6)), r"x_val has shape \(\), but"),
        (
            plain(y_train=labels(30)[:, None], x_val=images(6), y_val=labels(6)),
            r"y_val has shape \(6,\), but for training it is \(30, 1\); give both the same",
        ),
        (
            plain(y_train=np.eye(3, dtype=int)[labels(30)]),
            r"labels have shape \(30, 3\), .* 30 integers from 0 to 2; of one-hot .* argmax\(1\)",
        ),
        (plain(y_train=np.eye(4)[labels(30)]), r"30 integers from 0 to 3; of one-hot labels take"),
    ],
)
def test_an_unfit_archive_is_refused_in_one_line(
    path: Path, arrays: dict[str, Any], said: str
) -> None:
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=said) as caught:
        load_training(f"npz:{path}", path.parent)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(DataError, match=r"cannot be read as an .npz .* check the path"):
        load_training(f"npz:{path}", path.parent)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"x_train": images(30) / 255}, "both as integers or both as floats"),
        ({"x_test": images(9) / 255}, "both as integers or both as floats"),
        ({"x_test": images(9, 5, 6)}, r"channels \(6, 5, 1\) and test images \(5, 6, 1\); give"),
        ({"x_test": images(9, 6, 5, 3)}, r"\(6, 5, 1\) and test images \(6, 5, 3\); give both"),
        (
            {"x_train": (it := images(30)), "x_test": it, "y_test": labels(30)},
            "the test images are the training images; give others",
        ),
    ],
)
def test_test_images_unlike_those_for_training_are_refused(
    path: Path, changes: dict[str, Any], said: str
) -> None:
    np.savez(path, **plain(**changes))
    with pytest.raises(DataError, match=said):
        load_test(f"npz:{path}", path.parent)
    np.savez(path, **plain(x_test=images(9, 6, 5, 1)))
    assert len(load_test(f"npz:{path}", path.parent)) == 9


def test_an_archive_that_would_not_fit_in_memory_is_refused_unread(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(path, **plain(x_train=np.zeros((30, 250, 250), np.uint8)))
    assert path.stat().st_size < 2**13
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=28 * 10**5))
    with pytest.raises(DataError, match="and loading takes twice their size"):
        load_training(f"npz:{path}", path.parent)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**20))
    with pytest.raises(DataError, match=r"has 0.00175 GiB of arrays, but only 0.000977 GiB of mem"):
        load_training(f"npz:{path}", path.parent)
    with (
        zipfile.ZipFile(path) as whole,
        zipfile.ZipFile(path.parent / "other.npz", "w", 8) as other,
    ):
        for name in whole.namelist():  # NumPy finds an array without the ending, too
            other.writestr(name.removesuffix(".npy"), whole.read(name))
    names = np.zeros(2**20, "U1")  # class names are read with the labels
    np.savez_compressed(path, **plain(), class_names=names)
    for archive in (path, path.parent / "other.npz"):
        with pytest.raises(DataError, match=r"of arrays, but only 0.000977 GiB of memory"):
            load_training(f"npz:{archive}", path.parent)


MINE = """
import numpy as np
import torch

def load(train):
    if not train:
        raise FileNotFoundError("no test images yet")
    return np.zeros((20, 4, 4)), np.arange(20) % 2, ("dark", "darker")

def leaves(train):
    raise SystemExit(3)

broken = lambda train: 1 / 0
nothing = lambda train: None
four = lambda train: (*load(train), "more")
learned = lambda train: (torch.zeros(20, 4, 4, requires_grad=True), *load(train)[1:])

def entry(train, data_dir):
    return leaves(train)

def fewer(train, *_):
    names = ("a", "b", "c") if train else ("a", "c")
    return np.full((20, 4, 4), float(train)), np.arange(20) % 2, names

turned = lambda train, *_: (*fewer(True)[:2], "abc" if train else "acb")
same = lambda train, *_: (*fewer(train)[:2], "abc" if train else list("abc"))
"""


def test_a_custom_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    info, training = load_training("mine.py:load", tmp_path)
    assert (info.name, info.title) == (f"{tmp_path}/mine.py:load", "mine")
    assert info.class_names == ("dark", "darker")
    assert training.labels_N.tolist() == [0, 1] * 10
    for name, said in (
        ("broken", "mine.py, line 13: ZeroDivisionError: division by zero; correct the file"),
        ("nothing", r"mine.py:nothing did not return \(images, labels, class names\) but"),
        ("four", r"four did not return .* \(too many values to unpack .*\); return these three"),
        ("learned", r"learned did not return .* requires grad\. Use .*; return these three"),
        ("leaves", "mine.py, line 11: SystemExit: 3; correct the file"),
        ("absent", "mine.py has no function 'absent'"),
    ):
        with pytest.raises(DataError, match=said):
            load_training(f"mine.py:{name}", tmp_path)
    with pytest.raises(DataError, match="line 7: FileNotFoundError: no test images yet"):
        load_test("mine.py:load", tmp_path)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """The names of a function in mine.py as a data set: by its file, and as an extension's."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)

    def names(function: str) -> list[str]:
        load = load_function(f"mine.py:{function}")
        monkeypatch.setitem(DATASETS, "mine", from_arrays(load, title="Mine"))
        return [f"mine.py:{function}", "mine"]

    return names


def test_other_class_names_for_the_test_are_refused(
    tmp_path: Path, named: Callable[[str], list[str]]
) -> None:
    for function, others in (("fewer", "a, c"), ("turned", "a, c, b")):
        said = f"training has classes a, b, c and test has {others}; return the same names, in"
        for name in named(function):
            with pytest.raises(DataError, match=said):
                load_test(name, tmp_path)
    assert [len(load_test(name, tmp_path)) for name in named("same")] == [20, 20]


def test_errors_in_an_extension_s_data_set_are_reported_in_one_line(
    tmp_path: Path, named: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, mine = named("entry")
    with pytest.raises(DataError, match=f"{tmp_path}/mine.py, line 11: SystemExit: 3; correct"):
        load_training(mine, tmp_path)
    *_, mine = named("broken")  # takes no data_dir
    with pytest.raises(DataError, match=r"mine.py: TypeError: .* takes 1 positional .*; correct"):
        load_training(mine, tmp_path)
    refusal = DataError("no licence; buy one")

    def refuse(*_: object) -> None:
        raise refusal

    monkeypatch.setitem(DATASETS, "mine", from_arrays(partial(refuse), title="Mine"))
    with pytest.raises(DataError) as caught:
        load_training(mine, tmp_path)
    assert caught.value is refusal
