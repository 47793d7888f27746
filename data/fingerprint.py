"""Identifies a data set by its content: the same pictures are the same data wherever they are.

For each class: the number of training pictures and a digest of their decoded pixels, independent
of their order and file names. For test pictures, which only the final test may decode: a digest
of the bytes of their files. Takes about 0.15 s for 50 000 images of 28 x 28.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from data.errors import listed
from data.examples import DatasetInfo, Examples
from data.folders.held_out import DIGEST_DIGITS, class_of

Pictures = tuple[int, str]  # number of pictures in a class, and their order-independent digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """What two data sets must share to count as the same."""

    image_shape: tuple[int, int, int]  # C, H, W
    training: Mapping[str, Pictures]  # by class, in label order; includes validation
    test: Mapping[str, Pictures]  # by class; empty if test images are verified whenever read
    validation: int  # how many of `training`, the last ones, are its own validation set; 0: drawn
    validated: str = ""  # digest of that set; empty without one, and in studies older than this

    @property
    def digest(self) -> str:
        # Earlier versions stored an order of the pictures, which was ignored here.
        return _digest([json.dumps({**self.to_dict(), "order": None}).encode()])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form for `from_dict`."""
        return {
            "image_shape": list(self.image_shape),
            "training": [[name, *pictures] for name, pictures in self.training.items()],
            "test": [[name, *pictures] for name, pictures in self.test.items()],
            "validation": self.validation,
            **({"validated": self.validated} if self.validated else {}),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Fingerprint:
        """Raises KeyError, TypeError or ValueError for anything `to_dict` did not return."""
        channels, height, width = map(int, stored["image_shape"])
        return cls(
            image_shape=(channels, height, width),
            training={str(name): (int(count), str(it)) for name, count, it in stored["training"]},
            test={str(name): (int(count), str(it)) for name, count, it in stored["test"]},
            validation=int(stored["validation"]),
            validated=str(stored.get("validated", "")),
        )


def fingerprint(info: DatasetInfo, examples: Examples) -> Fingerprint:
    """The fingerprint of all training examples and of the test digests in `info`."""
    digests = _of_images(examples)
    training: dict[str, list[bytes]] = {name: [] for name in info.class_names}
    for label, digest in zip(examples.labels_N.tolist(), digests, strict=True):
        training[info.class_names[label]].append(digest)
    own = digests[-info.validation_count :] if info.has_own_validation else []
    test: dict[str, list[bytes]] = {}
    for file in sorted(info.test_digests, key=class_of):
        test.setdefault(class_of(file), []).append(info.test_digests[file].encode())
    return Fingerprint(
        image_shape=info.image_shape,
        training={name: (len(found), _digest(found)) for name, found in training.items()},
        test={name: (len(found), _digest(found)) for name, found in test.items()},
        validation=len(own),
        validated=_digest(own) if own else "",
    )


def content_digest(examples: Examples) -> str:
    """A digest of the images with their labels, independent of their order."""
    of_each = zip(examples.labels_N.tolist(), _of_images(examples), strict=True)
    return _digest(b"%d:%b" % each for each in of_each)


def count_shared(examples: Examples, others: Examples) -> int:
    """How many of the examples have an image that is also among the others'."""
    known = {*_of_images(others)}
    return sum(digest in known for digest in _of_images(examples))


def in_order(examples: Examples, validation: int) -> Examples:
    """Sort by label and content, the last `validation` apart: renaming files keeps the split."""
    digests, labels = _of_images(examples), examples.labels_N.tolist()
    first = len(labels) - validation
    order = sorted(range(len(labels)), key=lambda it: (it >= first, labels[it], digests[it]))
    return examples.select(torch.tensor(order))


def _of_images(examples: Examples) -> list[bytes]:
    pixels_ND = examples.images_NCHW.cpu().contiguous().flatten(1).numpy()
    return [hashlib.sha256(image).digest() for image in pixels_ND]


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(parts))).hexdigest()[:DIGEST_DIGITS]


def differences(old: Fingerprint, new: Fingerprint) -> str:
    """What has changed, in words on one line; empty if the content is the same."""
    if not old.validated:
        new = replace(new, validated="")
    if old.digest == new.digest:
        return ""
    told = [f"class {name!r} is new" for name in new.training if name not in old.training]
    told += [f"class {name!r} is gone" for name in old.training if name not in new.training]
    reshaped = old.image_shape != new.image_shape  # then every picture differs
    if reshaped:
        told.append(f"the pictures are {_shape(new)} instead of {_shape(old)}")
    for kind, before, after in (("", old.training, new.training), ("test ", old.test, new.test)):
        for name, (was, digest) in before.items():
            now, other = after.get(name, (was, digest))
            if was != now:
                told.append(f"{now} {kind}pictures in {name!r}, not {was}")
            elif digest != other and (kind or not reshaped):
                told.append(f"different {kind}pictures in {name!r}")
    if old.validation != new.validation:
        told.append(f"{new.validation} pictures in its own validation set, not {old.validation}")
    elif old.validated != new.validated and not told:
        told.append("different pictures in its own validation set")
    return listed(told or ["classes or pictures are in a different order"], 6)


def _shape(of: Fingerprint) -> str:
    channels, height, width = of.image_shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
