import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR100, FashionMNIST

from data.datasets import DATASET_NAMES, default_data_dir
from data.errors import DataError
from data.published import PUBLISHED

RAW = default_data_dir() / "FashionMNIST/raw"
needs_fashion_mnist = pytest.mark.skipif(
    not (RAW / "train-images-idx3-ubyte.gz").exists() and "CI" not in os.environ,
    reason=f"Fashion-MNIST is not in {RAW}",
)


def test_a_set_in_idx_files_reads_as_torchvision_reads_it(small_fashion: Any) -> None:
    small_fashion.put_packed()
    info, training = PUBLISHED["fashion_mnist"].load_training(
        "fashion_mnist", small_fashion.data_dir
    )
    test = PUBLISHED["fashion_mnist"].load_test(small_fashion.data_dir)
    small_fashion.put_extracted()
    for train, examples in ((True, training), (False, test)):
        reference = FashionMNIST(small_fashion.data_dir, train=train)
        assert torch.equal(examples.images_NCHW[:, 0], reference.data)
        assert torch.equal(examples.labels_N, reference.targets)
    assert info.class_names == tuple(FashionMNIST.classes)
    assert (info.training_count, info.image_shape) == (30, (1, 28, 28))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("train-labels-idx1-ubyte.gz", np.full(30, 200, np.uint8), "labels 200 to 200"),
        ("train-labels-idx1-ubyte.gz", np.zeros(29, np.uint8), "not laid out as published"),
        ("train-images-idx3-ubyte.gz", np.zeros((30, 27, 28), np.uint8), "not laid out"),
        ("train-images-idx3-ubyte.gz", b"", "not laid out"),
        ("train-labels-idx1-ubyte.gz", b"\0\0\x08\1\0\0\0\x1e" + bytes(29), "not laid out"),
        ("train-labels-idx1-ubyte.gz", b"\0\0\x08\1\0\0\0\x1e" + bytes(31), "not laid out"),
    ],
)
def test_counts_shapes_and_labels_are_checked_behind_the_md5(
    small_fashion: Any, name: str, values: Any, message: str
) -> None:
    small_fashion.publish(name, values)
    small_fashion.put_packed()
    with pytest.raises(DataError, match=f"Fashion-MNIST: .*{message}"):
        PUBLISHED["fashion_mnist"].load_training("fashion_mnist", small_fashion.data_dir)


@pytest.mark.parametrize(
    ("name", "key", "classes"),
    [("cifar100", "fine_labels", 100), ("cifar100_coarse", "coarse_labels", 20)],
)
def test_a_set_in_pickled_batches_reads_as_torchvision_reads_it(
    small_cifar100: Path, name: str, key: str, classes: int
) -> None:
    info, training = PUBLISHED[name].load_training(name, small_cifar100)
    test = PUBLISHED[name].load_test(small_cifar100)
    assert not (small_cifar100 / "cifar-100-python").exists()
    reference = CIFAR100(small_cifar100, train=True, download=True)  # extracts, fetches nothing
    assert torch.equal(training.images_NCHW, torch.from_numpy(reference.data).permute(0, 3, 1, 2))
    for split, examples in (("train", training), ("test", test)):
        batch = pickle.loads((small_cifar100 / "cifar-100-python" / split).read_bytes())
        assert examples.labels_N.tolist() == batch[key]
    assert len(info.class_names) == classes
    assert info.class_names[3] == f"{'fine' if classes == 100 else 'coarse'} 3"

    (small_cifar100 / CIFAR100.filename).unlink()
    again_info, again = PUBLISHED[name].load_training(name, small_cifar100)
    assert again_info == info
    assert torch.equal(again.images_NCHW, training.images_NCHW)


def test_a_pickle_with_another_md5_is_never_loaded(small_cifar100: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    extracted = small_cifar100 / "cifar-100-python"
    extracted.mkdir()
    (small_cifar100 / CIFAR100.filename).unlink()
    for name in ("train", "test", "meta"):
        (extracted / name).write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError, match="damaged"):
        PUBLISHED["cifar100"].load_training("cifar100", small_cifar100)
    assert not (tmp_path / "executed").exists()


def test_commands_name_all_of_them() -> None:
    assert (*PUBLISHED, "digits") == DATASET_NAMES


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_register_is_sound(name: str) -> None:
    entry = PUBLISHED[name]
    assert entry.validation_count < entry.training_count
    assert entry.mirror_changes_class == (name == "mnist")
    for train in (True, False):
        files = entry.files(train=train)
        assert files
        for file in files:
            assert len(file.md5) == len(file.archive.md5) == 32
            assert not Path(file.path).is_absolute()


@needs_fashion_mnist
def test_fashion_mnist_itself() -> None:
    info, training = PUBLISHED["fashion_mnist"].load_training("fashion_mnist", default_data_dir())
    assert training.images_NCHW.shape == (60_000, 1, 28, 28)
    assert training.labels_N.bincount().tolist() == [6000] * 10
    # The first image of the published set is an ankle boot; its mean brightness is well known.
    assert info.class_names[int(training.labels_N[0])] == "Ankle boot"
    assert training.images_NCHW.double().mean().item() / 255 == pytest.approx(0.2860, abs=5e-5)


@needs_fashion_mnist
@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_the_md5_of_what_an_archive_holds_is_the_registered_one(name: str) -> None:
    import gzip
    import hashlib

    for train in (True, False):
        for file in PUBLISHED[name].files(train=train):
            packed = (default_data_dir() / file.archive.path).read_bytes()
            assert hashlib.md5(packed).hexdigest() == file.archive.md5
            assert hashlib.md5(gzip.decompress(packed)).hexdigest() == file.md5
