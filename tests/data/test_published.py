"""Published data sets: read as torchvision reads them, verified, fetched once and never hanging."""

import gzip
import hashlib
import os
import pickle
import ssl
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR100, FashionMNIST

from data.datasets import default_data_dir, load_test, load_training
from data.errors import DataError
from data.published import read_idx

IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
RAW = default_data_dir() / "FashionMNIST/raw"
Serve = Callable[[dict[str, bytes]], list[str]]


def read(small_fashion: Any, *, train: bool = True) -> list[bytes]:
    return read_idx("FashionMNIST", train, small_fashion.data_dir)


def test_a_set_in_idx_files_reads_as_torchvision_reads_it(small_fashion: Any) -> None:
    small_fashion.put()
    info, training = load_training("fashion_mnist", small_fashion.data_dir)
    test = load_test("fashion_mnist", small_fashion.data_dir)
    for name, packed in small_fashion.packed.items():
        (small_fashion.raw / name.removesuffix(".gz")).write_bytes(gzip.decompress(packed))
    for train, examples in ((True, training), (False, test)):
        reference = FashionMNIST(small_fashion.data_dir, train=train)
        assert torch.equal(examples.images_NCHW[:, 0], reference.data)
        assert torch.equal(examples.labels_N, reference.targets)
    assert info.class_names == tuple(FashionMNIST.classes)
    assert (info.training_count, info.image_shape) == (30, (1, 28, 28))


@pytest.mark.parametrize(
    ("name", "kind", "classes"), [("cifar100", "fine", 100), ("cifar100_coarse", "coarse", 20)]
)
def test_a_set_in_pickled_batches_reads_as_torchvision_reads_it(
    small_cifar100: Path, name: str, kind: str, classes: int
) -> None:
    info, training = load_training(name, small_cifar100)
    test = load_test(name, small_cifar100)
    assert not (small_cifar100 / "cifar-100-python").exists()
    reference = CIFAR100(small_cifar100, train=True, download=True)  # extracts, fetches nothing
    assert torch.equal(training.images_NCHW, torch.from_numpy(reference.data).permute(0, 3, 1, 2))
    for split, examples in (("train", training), ("test", test)):
        batch = pickle.loads((small_cifar100 / "cifar-100-python" / split).read_bytes())
        assert examples.labels_N.tolist() == batch[f"{kind}_labels"]
    assert (len(info.class_names), info.class_names[3]) == (classes, f"{kind} 3")
    archive = small_cifar100 / CIFAR100.filename
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(DataError, match="damaged"):  # a pickle with another MD5 is never loaded
        load_training(name, small_cifar100)


def test_digits_are_scikit_learns_with_a_split_that_never_changes(tmp_path: Path) -> None:
    info, training = load_training("digits", tmp_path)
    test = load_test("digits", tmp_path)
    assert (len(training), len(test), info.validation_count) == (1437, 360, 287)
    assert info.mirror_changes_class
    images, labels = load_digits(return_X_y=True)
    both = torch.cat([training.images_NCHW, test.images_NCHW]).flatten(1).numpy()
    ours, theirs = both.tolist(), np.rint(images * (255 / 16)).astype(int).tolist()
    assert sorted(ours) == sorted(theirs)
    assert all(labels[theirs.index(ours[i])] == int(training.labels_N[i]) for i in range(0, 99, 9))
    # A change here would silently move test images into training.
    digest = hashlib.sha256(test.images_NCHW.numpy().tobytes()).hexdigest()
    assert digest.startswith("de85aee14a9506dd")


def test_training_opens_no_test_file_needs_none_and_writes_nothing(small_fashion: Any) -> None:
    small_fashion.put(IMAGES, LABELS)
    (small_fashion.raw / "t10k-images-idx3-ubyte.gz").mkdir()  # cannot be opened
    before = sorted(small_fashion.data_dir.rglob("*"))
    assert len(read(small_fashion)) == 2
    assert sorted(small_fashion.data_dir.rglob("*")) == before


def test_a_damaged_file_is_named_with_the_remedy(small_fashion: Any) -> None:
    small_fashion.put()
    content = bytearray((small_fashion.raw / LABELS).read_bytes())
    content[len(content) // 2] ^= 4
    (small_fashion.raw / LABELS).write_bytes(content)
    # Intact files are not blamed.
    said = f"from {small_fashion.raw}: {LABELS} is missing or damaged.* Connection refused"
    with pytest.raises(DataError, match=said) as caught:
        read(small_fashion)
    assert "\n" not in str(caught.value)


def test_missing_files_are_fetched_for_both_parts(small_fashion: Any, serve: Serve) -> None:
    got = serve(small_fashion.packed)
    with ThreadPoolExecutor(3) as pool:  # concurrent readers fetch once
        found = list(pool.map(lambda _: read(small_fashion), range(3)))
    assert found == 3 * [[small_fashion.packed[name] for name in (IMAGES, LABELS)]]
    assert sorted(got) == sorted(small_fashion.packed)
    assert len(read(small_fashion)) == len(read(small_fashion, train=False)) == 2
    assert len(got) == 4  # from disk from now on
    path = small_fashion.raw / IMAGES
    path.write_bytes(path.read_bytes()[:-100])
    assert read(small_fashion)[0] == small_fashion.packed[IMAGES] == path.read_bytes()
    assert got[4:] == [IMAGES]


def test_unavailable_test_files_do_not_hinder_training(small_fashion: Any, serve: Serve) -> None:
    serve({name: small_fashion.packed[name] for name in (IMAGES, LABELS)})
    assert len(read(small_fashion)) == 2
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz is missing .*404"):
        read(small_fashion, train=False)


def test_other_content_at_the_address_is_refused_and_removed(
    small_fashion: Any, serve: Serve
) -> None:
    serve(dict.fromkeys(small_fashion.packed, b"<html>Please log in</html>"))
    with pytest.raises(DataError, match=r"127.0.0.1:.*sent something else"):
        read(small_fashion)
    assert {path.name for path in small_fashion.data_dir.rglob("*") if path.is_file()} <= {".lock"}


def test_missing_certificates_are_told_with_the_remedy(
    small_fashion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in python.org's Python on macOS, until its script has been run."""

    def refuse(*_: Any, **__: Any) -> None:
        raise URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(DataError, match=r"verify failed; .*Install Certificates\.command"):
        read(small_fashion)


@pytest.mark.skipif(
    not (RAW / IMAGES).exists() and "CI" not in os.environ, reason=f"Fashion-MNIST is not in {RAW}"
)
def test_fashion_mnist_itself() -> None:
    info, training = load_training("fashion_mnist", default_data_dir())
    assert training.labels_N.bincount().tolist() == [6000] * 10
    assert (info.validation_count, info.mirror_changes_class) == (10_000, False)
    # The first image of the published set is an ankle boot; its mean brightness is well known.
    assert info.class_names[int(training.labels_N[0])] == "Ankle boot"
    assert training.images_NCHW.double().mean().item() / 255 == pytest.approx(0.2860, abs=5e-5)
