"""The published data sets, in torchvision's files: Fashion-MNIST, MNIST, CIFAR-10 and CIFAR-100."""

import math
import pickle
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.errors import DataError
from data.examples import DatasetInfo, Examples
from data.fetch import Archive
from data.files import File, read

# torchvision has the MD5 of each .gz only. These are of what the .gz files hold, so that an
# extracted file alone is verified too.
EXTRACTED_MD5 = {
    "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Published(ABC):
    """A published data set; the counts and shapes are what its files are checked against.

    source: the name of torchvision's class, which knows the addresses, file names and MD5s.
    """

    title: str
    source: str
    classes: int
    image_shape: tuple[int, int, int]
    training_count: int
    test_count: int
    validation_count: int
    mirror_changes_class: bool = False

    @property
    def torchvision_class(self) -> Any:
        from torchvision import datasets  # a second, which commands that read no file are spared

        return getattr(datasets, self.source)

    @abstractmethod
    def files(self, *, train: bool) -> list[File]:
        """The files of one split."""

    @abstractmethod
    def decode(self, contents: list[bytes], count: int) -> tuple[Tensor, Tensor]:
        """Images uint8 NCHW and labels int64 N out of one split's files."""

    @abstractmethod
    def class_names(self, contents: list[bytes]) -> tuple[str, ...]:
        """The classes' names; `contents` are those of the training files."""

    def read(self, data_dir: Path, *, train: bool) -> list[bytes]:
        """The verified files of one split, fetched where need be; the other's are not opened."""
        companions = self.files(train=not train)
        return read(self.title, self.files(train=train), data_dir, companions=companions)

    def examples(self, contents: list[bytes], *, train: bool) -> Examples:
        """One split out of its files, with shapes, count and range of labels checked."""
        count = self.training_count if train else self.test_count
        try:
            images_NCHW, labels_N = self.decode(contents, count)
        except (KeyError, ValueError, pickle.UnpicklingError) as error:
            raise DataError(f"{self.title}: its files are not laid out as published") from error
        if images_NCHW.shape != (count, *self.image_shape) or labels_N.shape != (count,):
            raise DataError(
                f"{self.title}: {tuple(images_NCHW.shape)} images and {len(labels_N)} labels, "
                f"where {(count, *self.image_shape)} were published"
            )
        if labels_N.min() < 0 or labels_N.max() >= self.classes:
            raise DataError(
                f"{self.title}: labels {labels_N.min()} to {labels_N.max()}, "
                f"where 0 to {self.classes - 1} were published"
            )
        return Examples(images_NCHW=images_NCHW, labels_N=labels_N)

    def load_training(self, name: str, data_dir: Path) -> tuple[DatasetInfo, Examples]:
        contents = self.read(data_dir, train=True)
        info = DatasetInfo(
            name=name,
            title=self.title,
            class_names=self.class_names(contents),
            image_shape=self.image_shape,
            mirror_changes_class=self.mirror_changes_class,
            validation_count=self.validation_count,
            training_count=self.training_count,
        )
        return info, self.examples(contents, train=True)

    def load_test(self, data_dir: Path) -> Examples:
        return self.examples(self.read(data_dir, train=False), train=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Idx(Published):
    """Images and labels in two gzipped IDX files a split."""

    names: tuple[str, ...] = ()  # torchvision's, where there are none here
    classes: int = 10
    image_shape: tuple[int, int, int] = (1, 28, 28)
    training_count: int = 60_000
    test_count: int = 10_000

    def files(self, *, train: bool) -> list[File]:
        source = self.torchvision_class
        folder = f"{self.source}/raw/"
        resources = source.resources[:2] if train else source.resources[2:]
        files = []
        for packed_name, packed_md5 in resources:
            path = folder + packed_name.removesuffix(".gz")
            urls = tuple(mirror + packed_name for mirror in source.mirrors)
            archive = Archive(path=folder + packed_name, md5=packed_md5, urls=urls)
            files.append(File(path=path, md5=EXTRACTED_MD5[path], archive=archive))
        return files

    def decode(self, contents: list[bytes], count: int) -> tuple[Tensor, Tensor]:
        images, labels = contents
        shape = (count, *self.image_shape[1:])
        return _idx(images, shape)[:, None], _idx(labels, (count,)).long()

    def class_names(self, contents: list[bytes]) -> tuple[str, ...]:
        return self.names or tuple(self.torchvision_class.classes)


def _idx(content: bytes, shape: tuple[int, ...]) -> Tensor:
    """The uint8 tensor of `shape` in an IDX file: 0, 0, type, rank, sizes (big-endian), values."""
    header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
    if content[: len(header)] != header or len(content) != len(header) + math.prod(shape):
        raise ValueError(f"no IDX file of {shape} bytes")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=len(header)).view(shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cifar(Published):
    """Pickled batches in one tar; `labels` and `names` are keys in them and in their meta file."""

    labels: str
    names: str
    image_shape: tuple[int, int, int] = (3, 32, 32)
    training_count: int = 50_000
    test_count: int = 10_000
    validation_count: int = 10_000

    def files(self, *, train: bool) -> list[File]:
        source = self.torchvision_class
        archive = Archive(path=source.filename, md5=source.tgz_md5, urls=(source.url,))
        meta = [(source.meta["filename"], source.meta["md5"])]
        members = [*source.train_list, *meta] if train else source.test_list
        return [
            File(path=f"{source.base_folder}/{name}", md5=md5, archive=archive)
            for name, md5 in members
        ]

    def decode(self, contents: list[bytes], count: int) -> tuple[Tensor, Tensor]:
        batches = [_unpickled(content) for content in contents]
        batches = [batch for batch in batches if "data" in batch]
        pixels = np.concatenate([batch["data"] for batch in batches])
        labels = np.concatenate([batch[self.labels] for batch in batches])
        return (
            torch.from_numpy(pixels).view(-1, *self.image_shape),
            torch.from_numpy(labels.astype(np.int64)),
        )

    def class_names(self, contents: list[bytes]) -> tuple[str, ...]:
        return tuple(_unpickled(contents[-1])[self.names])


def _unpickled(content: bytes) -> dict[str, Any]:
    """Of verified bytes only: an MD5 of torchvision's stands for them."""
    loaded: dict[str, Any] = pickle.loads(content, encoding="latin1")
    return loaded


PUBLISHED: dict[str, Published] = {
    "fashion_mnist": _Idx(
        title="Fashion-MNIST",
        source="FashionMNIST",
        validation_count=10_000,
    ),
    "mnist": _Idx(
        title="MNIST",
        source="MNIST",
        names=tuple("0123456789"),
        validation_count=5_000,
        mirror_changes_class=True,
    ),
    "cifar10": _Cifar(
        title="CIFAR-10",
        source="CIFAR10",
        classes=10,
        labels="labels",
        names="label_names",
    ),
    "cifar100": _Cifar(
        title="CIFAR-100",
        source="CIFAR100",
        classes=100,
        labels="fine_labels",
        names="fine_label_names",
    ),
    "cifar100_coarse": _Cifar(
        title="CIFAR-100 (20 super-classes)",
        source="CIFAR100",
        classes=20,
        labels="coarse_labels",
        names="coarse_label_names",
    ),
}
