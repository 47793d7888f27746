"""A data set known by its content: the same pictures are the same data wherever they lie.

Of each class the number of training pictures and a digest over their decoded pixels, whatever
their order and their files' names. Of the test pictures, which nothing but the final test may
decode, a digest over the bytes of their files. Costs about 0.15 s for 50 000 images of 28 x 28.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.examples import DatasetInfo, Examples
from data.held_out import DIGEST_DIGITS

MOST_TOLD = 6  # differences


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """How many pictures a class has, and a digest of them that knows no order."""

    count: int
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What makes two data sets the same.

    Attributes:
        image_shape: C, H, W.
        training: by class, in the order of the labels; those for validation among them.
        test: by class; empty for published data, whose files are verified whenever they are read.
        validation: how many of `training`, the last ones in order, the data set has for validation
            itself; 0 where they are drawn.
        order: digest of the order of the training pictures, on which depends which of them are for
            validation. It follows a folder's file names and is no part of the content.
    """

    image_shape: tuple[int, int, int]
    training: Mapping[str, Pictures]
    test: Mapping[str, Pictures]
    validation: int
    order: str

    @property
    def digest(self) -> str:
        """Of the content."""
        parts = {**self.to_dict(), "order": None}
        return _digest([json.dumps(parts).encode()])

    def is_same(self, other: Fingerprint) -> bool:
        """Whether the content is, down to the order of the labels."""
        return (
            self.image_shape == other.image_shape
            and list(self.training.items()) == list(other.training.items())
            and self.test == other.test
            and self.validation == other.validation
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, which `from_dict` takes."""
        return {
            "image_shape": list(self.image_shape),
            "training": _to_lists(self.training),
            "test": _to_lists(self.test),
            "validation": self.validation,
            "order": self.order,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Fingerprint:
        """Raises KeyError, TypeError or ValueError for what `to_dict` did not give."""
        channels, height, width = map(int, stored["image_shape"])
        return cls(
            image_shape=(channels, height, width),
            training=_from_lists(stored["training"]),
            test=_from_lists(stored["test"]),
            validation=int(stored["validation"]),
            order=str(stored["order"]),
        )


def _to_lists(classes: Mapping[str, Pictures]) -> list[list[Any]]:
    return [[name, pictures.count, pictures.digest] for name, pictures in classes.items()]


def _from_lists(stored: Iterable[Sequence[Any]]) -> dict[str, Pictures]:
    return {
        str(name): Pictures(count=int(count), digest=str(digest)) for name, count, digest in stored
    }


def fingerprint(info: DatasetInfo, examples: Examples) -> Fingerprint:
    """Of all training examples and of what `info` knows of the test images."""
    pixels_ND = examples.images_NCHW.cpu().contiguous().flatten(1).numpy()
    labels = examples.labels_N.tolist()
    digests = [hashlib.sha256(image).digest() for image in pixels_ND]
    of_class: list[list[bytes]] = [[] for _ in info.class_names]
    for label, digest in zip(labels, digests, strict=True):
        of_class[label].append(digest)
    test: dict[str, list[bytes]] = {}
    for file, file_digest in info.test_digests.items():
        name = unicodedata.normalize("NFC", file.split("/")[-2])
        test.setdefault(name, []).append(file_digest.encode())
    return Fingerprint(
        image_shape=info.image_shape,
        training={
            name: _pictures(found) for name, found in zip(info.class_names, of_class, strict=True)
        },
        test={name: _pictures(test[name]) for name in sorted(test)},
        validation=info.validation_count if info.has_own_validation else 0,
        order=_digest([*digests, repr(labels).encode()]),
    )


def _pictures(digests: list[bytes]) -> Pictures:
    return Pictures(count=len(digests), digest=_digest(sorted(digests)))


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:DIGEST_DIGITS]


def differences(old: Fingerprint, new: Fingerprint) -> str:
    """What has changed, in words on one line; empty where the content is the same."""
    if old.is_same(new):
        return ""
    renamed = _renamed(old.training, new.training)
    told = [f"class {before!r} is now called {after!r}" for before, after in renamed.items()]
    told += _classes(
        [name for name in old.training if name not in renamed],
        [name for name in new.training if name not in renamed.values()],
    )
    reshaped = old.image_shape != new.image_shape
    if reshaped:
        told.append(_other_shape(old.image_shape, new.image_shape))
    told += _pictures_in(old.training, new.training, "", counts_only=reshaped)
    test = {renamed.get(name, name): pictures for name, pictures in old.test.items()}
    told += _pictures_in(test, new.test, "test ", counts_only=False)
    if old.validation != new.validation:
        told.append(f"{new.validation} pictures of their own for validation, not {old.validation}")
    return _shortened(told or ["the classes stand in another order"])


def rough_differences(
    class_names: Sequence[str], image_shape: Sequence[int], training_count: int, new: Fingerprint
) -> str:
    """`differences` where no more is known of the old data, of a study of an earlier version."""
    told = _classes(class_names, list(new.training))
    if tuple(image_shape) != new.image_shape:
        told.append(_other_shape(image_shape, new.image_shape))
    count = sum(pictures.count for pictures in new.training.values())
    if count != training_count:
        told.append(_more_or_fewer(count - training_count, ""))
    return _shortened(told)


def _shortened(told: Sequence[str]) -> str:
    left = len(told) - MOST_TOLD
    return ", ".join([*told[:MOST_TOLD], *([f"and {left} more"] if left > 0 else [])])


def _renamed(old: Mapping[str, Pictures], new: Mapping[str, Pictures]) -> dict[str, str]:
    """Classes that have the same pictures under another name: new name by old."""
    come = {pictures: name for name, pictures in new.items() if name not in old}
    gone = {name: pictures for name, pictures in old.items() if name not in new}
    return {name: come[pictures] for name, pictures in gone.items() if pictures in come}


def _classes(old: Sequence[str], new: Sequence[str]) -> list[str]:
    return [f"class {name!r} is new" for name in new if name not in old] + [
        f"class {name!r} is gone" for name in old if name not in new
    ]


def _pictures_in(
    old: Mapping[str, Pictures], new: Mapping[str, Pictures], kind: str, *, counts_only: bool
) -> Iterator[str]:
    for name, pictures in old.items():
        if name in new and new[name] != pictures:
            more = new[name].count - pictures.count
            if more or not counts_only:
                yield f"{_more_or_fewer(more, kind)} in {name!r}"


def _more_or_fewer(more: int, kind: str) -> str:
    if more == 0:
        return f"other {kind}pictures"
    noun = "picture" if abs(more) == 1 else "pictures"
    return f"{abs(more)} {'more' if more > 0 else 'fewer'} {kind}{noun}"


def _other_shape(old: Sequence[int], new: Sequence[int]) -> str:
    old_size, new_size = (
        f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
        for channels, height, width in (old, new)
    )
    return f"the pictures are {new_size} in place of {old_size}"
