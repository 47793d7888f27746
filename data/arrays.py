"""Data sets that come as arrays: from a function, or from an .npz archive.

Shapes: N images, H x W pixels, C channels (1 grey, 3 RGB); K classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from data.errors import DataError, is_text, listed, reason, shown
from data.examples import DatasetInfo, Examples, require_memory, share
from data.extensions import call_own, file_of
from data.folders.preparation import (
    Preparation,
    Range,
    Reading,
    levels_of_arrays,
    scale,
    unit_fault,
    words,
)
from data.reading import open_regular

if TYPE_CHECKING:
    from data.datasets import Dataset

MAX_BYTES = 2**36  # of an archive
MAX_CLASSES = 10_000  # that are named by their numbers
_MIRRORING = {
    True: "mirroring: a mirrored picture may belong to another class, so none is flipped; --mirror "
    "safe allows it",
    False: "mirroring: a mirrored picture is assumed to keep its class, so augmentation may flip "
    "it; --mirror unsafe forbids it",
}
_SIGN = re.compile(
    r"((digit|letter|character|number)[\W_]*)?"
    r"(\d+|[^\W_]|zero|one|two|three|four|five|six|seven|eight|nine)"
)
_SIDE = re.compile(
    r"(?<![^\W\d_])(left|right|links|rechts|gauche|droite|izquierda|derecha)(?![^\W\d_])"
)
_DIM = 32  # of 256 levels: too few to see anything
# Training, test, and validation images and labels; the second list is MedMNIST's.
_PLAIN_KEYS = ["x_train", "y_train", "x_test", "y_test", "x_val", "y_val"]
_MEDMNIST_KEYS = [f"{p}_{it}" for p in ("train", "test", "val") for it in ("images", "labels")]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Training or test examples; a user's function may return a tuple of the first three."""

    images: Any  # (N, H, W) or (N, H, W, C): uint8, or integers or floats of any range
    labels: Any  # integers (N,) or (N, 1), 0 to K - 1
    class_names: Iterable[Any]
    validation: int = 0  # how many, the last ones, are for validation; 0: some are drawn
    # As in `DatasetInfo`.
    test_digests: Mapping[str, str] = field(default_factory=dict)
    test_is_drawn: bool = False
    preparation: Preparation = field(default_factory=Preparation)
    notes: tuple[str, ...] = ()


def load_training(
    dataset: Dataset, data_dir: Path, reading: Reading
) -> tuple[DatasetInfo, Examples]:
    """See `data.datasets.load_training`."""
    part = _loaded(dataset, True, data_dir)
    learned = len(part.labels) - part.validation
    parts = part.images[:learned], part.images[learned:]
    if not dataset.is_ours and (fault := unit_fault(*parts, "validation")):
        raise DataError(f"{dataset.name}: {fault}")
    levels, notes, preparation = levels_of_arrays(part.images), list(part.notes), part.preparation
    examples = _examples(part, levels)
    if levels is None and not dataset.is_ours and 0 < (top := int(part.images.max())) < _DIM:
        notes.append(
            f"warning: images of uint8 are not scaled, and these have no level above {top}, so a "
            "picture of usual brightness is nothing like them; give another type, such as float32, "
            "which is scaled, or multiply them"
        )
    if levels is not None:
        notes.append(f"{words(levels)}, as found in the training images")
        preparation = Preparation(levels=levels)
    classes = tuple(part.class_names)
    trained = {*part.labels[:learned].tolist()}
    if absent := [repr(name) for label, name in enumerate(classes) if label not in trained]:
        notes.append(f"warning: no training images of class {listed(absent)}")
    guess = mirror_changes_class(classes, version=reading.version)
    said = (reading.mirror_changes_class, dataset.mirror_changes_class, guess)
    mirrors = next(it for it in said if it is not None)
    if mirrors or dataset.path is not None:
        notes.append(_MIRRORING[mirrors])
    usual = dataset.validation_count or share(learned, len(classes))
    channels, height, width = examples.images_NCHW.shape[1:]
    info = DatasetInfo(
        name=dataset.name,
        title=dataset.title,
        class_names=classes,
        image_shape=(channels, height, width),
        mirror_changes_class=mirrors,
        validation_count=part.validation or usual,
        training_count=len(examples),
        test_digests=part.test_digests,
        test_is_drawn=part.test_is_drawn,
        has_own_validation=part.validation > 0,
        preparation=preparation,
        notes=tuple(notes),
    )
    return info, examples


def load_test(dataset: Dataset, data_dir: Path) -> Examples:
    """The test examples, scaled by the levels of the training images if either are not uint8.

    Raises DataError if the user's training and test parts do not agree.
    """
    part = learned = _loaded(dataset, False, data_dir)
    if not dataset.is_ours:
        learned = _loaded(dataset, True, data_dir)
        if fault := _disagreement(learned, part):
            raise DataError(f"{dataset.name}: {fault}")
    levels = levels_of_arrays(learned.images)
    return _examples(part, (0, 255) if levels is None and part.images.dtype != np.uint8 else levels)


def mirror_changes_class(class_names: Sequence[str], *, version: int = 2) -> bool:
    """Whether a mirrored picture may belong to another class, guessed from the class names: all
    are symbols (letters, digits, numbers), or some distinguish left from right."""
    names = [name.casefold() for name in class_names]
    if version == 1:
        return all(len(name) == 1 and name.isalnum() for name in names)
    return all(map(_SIGN.fullmatch, names)) or any(map(_SIDE.search, names))


def load(path: Path, train: bool, _data_dir: Path) -> Part:
    """Training or test arrays of an archive; of the other part, only labels are read."""
    with _opened(path) as archive:
        keys = _keys(path, archive)
        wanted = {"class_names", *([*keys[:2], *keys[4:]] if train else keys[1:4])}
        sizes = [(e.filename.removesuffix(".npy"), e.file_size) for e in archive.zip.infolist()]
        needed = sum(size for name, size in sizes if name in wanted)
        require_memory(needed, f"{path} has")  # a few kilobytes can unpack to any size
        labels = archive[keys[1]]
        codes = labels if labels.dtype.kind in "ui" else np.arange(max(len(np.unique(labels)), 2))
        count = min(max(1, int(codes.max(initial=0)) + 1, *labels.shape[1:]), MAX_CLASSES)
        names = archive["class_names"] if "class_names" in archive else np.arange(count)
        if not train:
            return Part(archive[keys[2]], archive[keys[3]], names)
        part = Part(archive[keys[0]], labels, names, test_digests=_test_digests(path, archive))
        if not {*keys[4:]} <= {*archive.files}:
            return part
        more, own = archive[keys[4]], archive[keys[5]]
        if more.shape[:1] == own.shape[:1] == (0,):
            return part
        for key, one, first in ((keys[4], more, part.images), (keys[5], own, labels)):
            if one.shape[1:] != first.shape[1:]:
                shapes = f"{key} has shape {one.shape}, but for training it is {first.shape}"
                raise DataError(f"{path}: {shapes}; give both the same, except for their number")
        return replace(
            part,
            images=np.concatenate([part.images, more]),
            labels=np.concatenate([part.labels, own]),
            validation=len(own),
            notes=(f"validation: the archive's own {len(own)} images",),
        )


def has_same_test(path: Path, info: DatasetInfo, _data_dir: Path) -> bool:
    with _opened(path) as archive:
        return _test_digests(path, archive) == info.test_digests


def _test_digests(path: Path, archive: Any) -> dict[str, str]:
    """Sizes and checksums of the test arrays from the archive's directory, none of them read."""
    entries = [archive.zip.getinfo(f"{key}.npy") for key in _keys(path, archive)[2:4]]
    return {f"npz/test/{e.filename}": f"{e.file_size:x}-{e.CRC:08x}" for e in entries}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The open archive; any error inside the `with` block becomes a DataError."""
    try:
        with open_regular(path, MAX_BYTES) as file, np.load(file, allow_pickle=False) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # damaged bytes make NumPy raise many kinds
        raise DataError(
            f"{path} cannot be read as an .npz archive of plain arrays ({reason(error)}); check "
            "the path, or save it with numpy.savez"
        ) from error


def _keys(path: Path, archive: Any) -> list[str]:
    """Keys of training, test and validation images and labels; the last two may be absent."""
    keys = _MEDMNIST_KEYS if _MEDMNIST_KEYS[0] in archive else _PLAIN_KEYS
    if lacking := [key for key in keys[:4] if key not in archive]:
        raise DataError(
            f"{path} has the keys {listed(archive.files)} and lacks {', '.join(lacking)}; save "
            f"{', '.join(_PLAIN_KEYS[:4])}"
        )
    return keys


def _loaded(dataset: Dataset, train: bool, data_dir: Path) -> Part:
    """The part, with images NHWC and labels N as arrays of valid types, class names as text."""
    if dataset.is_ours:
        found = dataset.load(train, data_dir)
    else:
        path = dataset.path or file_of(dataset.load) or Path(dataset.name)
        found = call_own(path, dataset.load, train, data_dir)
    try:
        part: Part = found
        if not isinstance(found, Part):
            images, labels, names = found
            part = Part(images, labels, names)
        images, labels = np.asarray(part.images), np.asarray(part.labels)
        names = [shown(it) if isinstance(it, bytes) else str(it) for it in part.class_names]
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: from torch tensors
        raise DataError(
            f"{dataset.name} did not return (images, labels, class names) but "
            f"{str(type(found))[:80]} ({reason(error)}); return these three"
        ) from error
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if images.dtype == bool:
        images = images * np.uint8(255)
    if fault := _fault(images, labels, names):
        raise DataError(f"{dataset.name}: {fault}")
    images = images.reshape(*images.shape[:3], -1)
    return replace(part, images=images, labels=labels, class_names=names)


def _fault(images: NDArray[Any], labels: NDArray[Any], names: Sequence[str]) -> str:
    """What is wrong, and the remedy; empty if nothing is."""
    fits = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    fits = fits and images.dtype.kind in "uif" and images.dtype.itemsize <= 8
    if not fits or 0 in images.shape:
        return (
            f"the images have shape {images.shape} and type {images.dtype}; give numbers of shape "
            "(N, H, W) or (N, H, W, C) with 1 or 3 channels"
        )
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        return "the images contain values that are not finite; replace them"
    if len(names) < 2 or len(set(names)) < len(names) or not all(map(is_text, names)):
        some = listed([name[:40] for name in names], 10)
        return f"class names {some} cannot be used; give at least two, all different"
    fits = labels.shape == images.shape[:1] and labels.dtype.kind in "ui"
    if not fits or labels.min() < 0 or labels.max() >= len(names):
        values = listed(sorted({str(label) for label in labels.flat}), 5)
        remedy = "; of one-hot labels take argmax(1)" if labels.ndim == 2 else ""
        return (
            f"the labels have shape {labels.shape}, type {labels.dtype} and values {values}; give "
            f"{len(images)} integers from 0 to {len(names) - 1}{remedy}"
        )
    return ""


def _disagreement(training: Part, test: Part) -> str:
    """How the parts differ in what they must share, and the remedy; empty if they do not."""
    trained, tested = training.images.dtype, test.images.dtype
    if (trained.kind == "f") != (tested.kind == "f"):
        return (
            f"training images are {trained} and test images {tested}, so their levels cannot be "
            "compared; give both as integers or both as floats"
        )
    names, others = [*training.class_names], [*test.class_names]
    if names != others:
        return (
            f"training has classes {listed(names)} and test has {listed(others)}; return the same "
            "names, in the same order, for both"
        )
    shape, other = training.images.shape[1:], test.images.shape[1:]
    if shape != other:
        return (
            f"training images have height, width and channels {shape} and test images {other}; "
            "give both the same"
        )
    if np.array_equal(training.images, test.images):
        return "the test images are the training images; give others for the test"
    return unit_fault(training.images, test.images, "test")


def _examples(part: Part, levels: Range | None) -> Examples:
    images = part.images if levels is None else scale(part.images, levels)
    return Examples(
        images_NCHW=torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C")),
        labels_N=torch.from_numpy(part.labels.astype(np.int64)),
    )
