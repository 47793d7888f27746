"""A person's own pictures as a data set: what they are made into, and where that is decided.

Sizes and levels of the training pictures are looked at once; what they decide holds for all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from data.arrays import Part
from data.errors import DataError
from data.examples import DatasetInfo
from data.folders.layout import Layout, class_of, read_layout
from data.folders.levels import common_range, extent, words
from data.folders.pictures import channels_of, decoded, each, is_deep, opened, read_pictures
from data.folders.preparation import FIRST, Preparation, Range, Reading

SIZES = (28, 32, 48, 64, 96, 128)  # sides in pixels that are chosen from
SMALLEST = 8  # for networks to have something to pool; the largest is a matter of time
LARGEST = 1024
FIRST_SIZE = 32  # of studies of before the size was chosen
MAX_PIXELS = 1 << 26  # of all training images: a little more than Fashion-MNIST's at 32 x 32

Shape = tuple[int, int, int]


def load(root: Path, train: bool, data_dir: Path, reading: Reading) -> Part:
    """Raises DataError for files that are no pictures, all at once."""
    layout = read_layout(root, data_dir, version=reading.version)
    image_shape, preparation, notes = prepare(layout, reading)
    files = layout.learned if train else tuple(layout.test_digests)
    label_of = {name: label for label, name in enumerate(layout.class_names)}
    return Part(
        images=read_pictures([root / file for file in files], image_shape, preparation),
        labels=[label_of[class_of(file)] for file in files],
        class_names=layout.class_names,
        validation=layout.validation if train else 0,
        test_digests=layout.test_digests,
        test_is_drawn=layout.test_is_drawn,
        preparation=preparation,
        notes=(*notes, *layout.notes),
    )


def has_same_test(root: Path, info: DatasetInfo, data_dir: Path, version: int) -> bool:
    """See `data.datasets.has_same_test`."""
    layout = read_layout(root, data_dir, version=version)
    return (layout.class_names, layout.test_digests) == (info.class_names, info.test_digests)


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
