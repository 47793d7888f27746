"""A person's own pictures as a data set: its training and test examples, and its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from data.examples import DatasetInfo, Examples
from data.folders.layout import Layout, class_of, read_layout, share
from data.folders.pictures import read_pictures
from data.folders.preparation import Preparation, Reading
from data.folders.survey import prepare

_SIDES = {"left", "right", "links", "rechts", "gauche", "droite", "izquierda", "derecha"}
_NUMBERS = {
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("digit", "letter", "character", "number"),
}


def load_training(
    root: Path, name: str, data_dir: Path, reading: Reading
) -> tuple[DatasetInfo, Examples]:
    """See `data.datasets.load_training`."""
    layout = read_layout(root, data_dir, version=reading.version)
    image_shape, preparation, notes = prepare(root, layout.learned, reading)
    classes, own = layout.class_names, len(layout.validation)
    info = DatasetInfo(
        name=name,
        title=layout.root.name,
        class_names=classes,
        image_shape=image_shape,
        mirror_changes_class=mirror_changes_class(classes, version=reading.version),
        validation_count=own or share(len(layout.training), len(classes)),
        training_count=len(layout.learned),
        test_digests=layout.test_digests,
        test_is_drawn=layout.test_is_drawn,
        has_own_validation=own > 0,
        preparation=preparation,
        notes=(*notes, *layout.notes),
    )
    return info, _examples(layout, layout.learned, image_shape, preparation)


def load_test(root: Path, _name: str, data_dir: Path, reading: Reading) -> Examples:
    """See `data.datasets.load_test`."""
    layout = read_layout(root, data_dir, version=reading.version)
    image_shape, preparation, _ = prepare(root, layout.learned, reading)
    return _examples(layout, layout.test, image_shape, preparation)


def _examples(
    layout: Layout,
    files: Sequence[str],
    image_shape: tuple[int, int, int],
    preparation: Preparation,
) -> Examples:
    """Raises DataError for files that are no pictures, all at once."""
    paths = [layout.root / file for file in files]
    label_of = {name: label for label, name in enumerate(layout.class_names)}
    return Examples(
        images_NCHW=read_pictures(paths, image_shape, preparation),
        labels_N=torch.tensor([label_of[class_of(file)] for file in files]),
    )


def mirror_changes_class(class_names: Sequence[str], *, version: int = 2) -> bool:
    """Whether a mirrored picture may belong to another class, guessed from the classes' names.

    True for what looks like signs, or for sides: classes called by a letter, a digit or a number,
    with or without a word for it, and classes that tell left from right.
    """
    if all(len(name) == 1 and name.isalnum() for name in class_names):
        return True
    if version == 1:
        return False
    words = [set(re.findall(r"[^\W\d_]+|\d+", name.casefold())) for name in class_names]
    return any(found & _SIDES for found in words) or all(
        found and all(word.isdecimal() or len(word) == 1 or word in _NUMBERS for word in found)
        for found in words
    )


def has_same_test(root: Path, info: DatasetInfo, data_dir: Path, version: int) -> bool:
    """See `data.datasets.has_same_test`."""
    layout = read_layout(root, data_dir, version=version)
    return (layout.class_names, layout.test_digests) == (info.class_names, info.test_digests)
