"""A person's own pictures as a data set: what they are made into, and where that is decided.

Sizes and levels of the training pictures are looked at once; what they decide holds for all others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from data.errors import DataError
from data.examples import DatasetInfo, Examples
from data.folders.layout import Layout, class_of, read_layout, share
from data.folders.levels import common_range, extent, words
from data.folders.pictures import channels_of, decoded, each, is_deep, opened, read_pictures
from data.folders.preparation import FIRST, Preparation, Range, Reading

SIZES = (28, 32, 48, 64, 96, 128)  # sides in pixels that are chosen from
SMALLEST = 8  # for networks to have something to pool; the largest is a matter of time
LARGEST = 1024
FIRST_SIZE = 32  # of studies of before the size was chosen
MAX_PIXELS = 1 << 26  # of all training images: a little more than Fashion-MNIST's at 32 x 32

Shape = tuple[int, int, int]
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
    image_shape, preparation, notes = prepare(layout, reading)
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
    image_shape, preparation, _ = prepare(layout, reading)
    return _examples(layout, tuple(layout.test_digests), image_shape, preparation)


def has_same_test(root: Path, info: DatasetInfo, data_dir: Path, version: int) -> bool:
    """See `data.datasets.has_same_test`."""
    layout = read_layout(root, data_dir, version=version)
    return (layout.class_names, layout.test_digests) == (info.class_names, info.test_digests)


def _examples(
    layout: Layout, files: Sequence[str], image_shape: Shape, preparation: Preparation
) -> Examples:
    """Raises DataError for files that are no pictures, all at once."""
    label_of = {name: label for label, name in enumerate(layout.class_names)}
    paths = [layout.root / file for file in files]
    return Examples(
        images_NCHW=read_pictures(paths, image_shape, preparation),
        labels_N=torch.tensor([label_of[class_of(file)] for file in files]),
    )


def prepare(layout: Layout, reading: Reading) -> tuple[Shape, Preparation, list[str]]:
    """How the training pictures, and all later ones, are prepared.

    Grey where all of them are; damaged ones are passed over. Those of up to 8 bits are opened
    only, others decoded.

    Returns:
        (C, H, W), the preparation, and what was decided, a sentence each.
    """
    size, paths = reading.image_size, [layout.root / file for file in layout.learned]
    if size is not None and not 1 <= size <= LARGEST:
        raise DataError(f"image size {size} is not between 1 and {LARGEST} pixels")
    if reading.version == 1:
        side = size or FIRST_SIZE
        return (channels_of(paths, side), side, side), FIRST, []
    looks = [look for look in each(_look, paths) if not isinstance(look, DataError)]
    sizes = sorted((size for size, *_ in looks), key=lambda size: size[0] * size[1])
    side = size or choose_size(sizes)
    levels = common_range(
        (own for _, own, _ in looks if own is not None),
        integers=all(is_whole for *_, is_whole in looks),
    )
    channels = channels_of(paths, side)
    between = " to ".join(dict.fromkeys(f"{w}x{h}" for w, h in (sizes[:1] + sizes[-1:])))
    kind = "grey" if channels == 1 else "RGB"
    notes = [f"pictures of {between} as they are, {kind}"]
    if set(sizes) != {(side, side)}:
        chosen = "" if size is not None else "; --image-size N changes the size"
        notes = [
            f"pictures of {between} scaled to {side}x{side} {kind}, proportions kept, the rest "
            f"filled with the colour of each picture's border{chosen}"
        ]
    if levels is not None:
        notes.append(f"pictures of more than 8 bits: {words(levels)}")
    return (channels, side, side), Preparation(fit="pad", levels=levels), notes if sizes else []


def _look(path: Path) -> tuple[tuple[int, int], Range | None, bool]:
    """Size, levels of a picture of more than 8 bits, and whether these are integers."""
    with opened(path) as image:
        size, deep, mode = image.size, is_deep(image), image.mode
    if not deep:
        return size, None, True
    with decoded(path, (1, 1), "pad") as image:
        return size, extent(np.asarray(image)), mode != "F"


def choose_size(sizes: Sequence[tuple[int, int]]) -> int:
    """The side in pixels for pictures of these sizes: of SIZES, or their own where smaller.

    The largest that half of them have, so that most are not enlarged, and that keeps all together
    within MAX_PIXELS (but 32 in any case), so that a study ends in good time.
    """
    affordable = max((MAX_PIXELS / max(len(sizes), 1)) ** 0.5, 32)
    most = min(median(map(min, sizes)) if sizes else 32, affordable)
    return max((size for size in SIZES if size <= most), default=max(int(most), SMALLEST))


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
