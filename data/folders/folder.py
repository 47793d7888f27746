"""The user's own pictures as a data set: how they are split and prepared.

PATH/train/<class>/* and, if given, PATH/test/<class>/*. PATH/val/<class>/* (or valid, validation),
if given, are the validation images. Without PATH/train the class folders are in PATH itself.
Without PATH/test a fifth of the images is held out for the test, by class (see
`data.folders.held_out`). Sizes and levels of the training pictures are examined once and decide
how all others are prepared.
"""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.arrays import Part
from data.errors import DataError, listed, refuse_names, shown
from data.examples import DatasetInfo, require_memory, share, stratified
from data.folders.cache import cached
from data.folders.held_out import (
    class_of,
    count_copies,
    file_digest,
    held_out,
    recorded_test,
)
from data.folders.looks import LARGEST, prepare
from data.folders.pictures import is_picture, is_system_folder, pictures_below, read_pictures
from data.folders.preparation import Reading
from data.reading import STUDY_MARK

VALIDATION = ("val", "valid", "validation")


def load(root: Path, reading: Reading, train: bool, data_dir: Path) -> Part:
    """Raises one DataError for all files that are not pictures."""

    def make() -> Part:
        if side := reading.image_size:  # to draw a test or judge colours may take hours
            with suppress(OSError):  # `read_layout` reports it
                count = sum(1 for _ in pictures_below(root, []))
                require_memory(count * min(side, LARGEST) ** 2 // 2, f"{root} has at least")
        found = read_layout(root, data_dir, version=reading.version)
        image_shape, preparation, notes = prepare([root / file for file in found.images], reading)
        files = found.images if train else list(found.test_digests)
        require_memory(len(files) * math.prod(image_shape), f"{root} has")
        label_of = {name: label for label, name in enumerate(found.class_names)}
        return replace(
            found,
            images=read_pictures([root / file for file in files], image_shape, preparation),
            labels=[label_of[class_of(file)] for file in files],
            validation=found.validation if train else 0,
            preparation=preparation,
            notes=(*notes, *found.notes),
        )

    name = f"{root} {train} {reading.image_size} {reading.version}"
    return cached(
        name,
        lambda: _folders(root),
        data_dir,
        make,
        lambda it: not it.test_is_drawn or it.test_digests == recorded_test(root, data_dir),
    )


def has_same_test(root: Path, reading: Reading, info: DatasetInfo, data_dir: Path) -> bool:
    layout = read_layout(root, data_dir, version=reading.version)
    return (layout.class_names, layout.test_digests) == (info.class_names, info.test_digests)


def read_layout(root: Path, data_dir: Path, *, version: int = Reading().version) -> Part:
    """The files below `root`, none decoded; a split that was drawn is in `data_dir`.

    Instead of images it has "train/<class>/<file>", or "<class>/<file>" without such a folder:
    those for training, then those for validation. `version`: see `Reading`. Raises DataError for a
    folder that is not a data set, with all faults of one kind at once.
    """
    try:
        return _read(root, data_dir, version)
    except OSError as error:
        told = f"cannot read {root}: {error}; check the path and its permissions"
        raise DataError(told) from error


def _read(root: Path, data_dir: Path, version: int) -> Part:
    skipped: list[Path] = []
    split = _training_folder(root, version)
    training = _scan(root, split, skipped)
    names = sorted({class_of(file) for file in training})
    if len(names) < 2:
        raise DataError(f"{root / split} has a single class; give at least two folders of images")
    own = [name for name in VALIDATION if split and version > 1 and (root / name).is_dir()]
    if len(own) > 1:
        raise DataError(f"{root} has folders {listed(own)}; keep one, for the validation images")
    validation = _scan(root, own[0], skipped, names) if own else []
    if split:
        used = [path for name in (split, "test", *own) if (path := root / name).is_dir()]
        others = [path for path in root.iterdir() if path.is_dir()]
        skipped += [
            path
            for path in sorted(others)
            # Where case does not matter, train/ may be called Train.
            if not (is_system_folder(path.name) or any(map(path.samefile, used)))
        ]
    notes = [f"validation: the {len(validation)} pictures of {name}/" for name in own]
    drawn = not (split and (root / "test").is_dir())
    if drawn:
        draw = partial(_draw, root, split)
        test = held_out(root, training, data_dir, draw, copies=version > 3)
        training = [file for file in training if file not in test]
        notes.append(
            f"test: there is no folder {shown(root / 'test')}, so {len(test)} pictures are held "
            "out, drawn by class; the folder's first study makes the choice final"
        )
    else:
        test = {file: file_digest(root / file) for file in _scan(root, "test", skipped, names)}
    _require_of_each_class(training, names, 1 if own else 2, root / split)
    for part, what in ((list(test), "test"), (validation, "validation")):
        absent = sorted(set(names) - {class_of(file) for file in part})
        if part and absent:
            notes.append(f"warning: no {what} pictures of class {', '.join(map(repr, absent))}")
    suspects = validation if drawn and version > 3 else [*training, *validation]
    if copies := count_copies(root, suspects, test):
        notes.append(f"warning: copies of test pictures in training or validation: {copies}")
    if skipped:
        told = listed(sorted({path.name for path in skipped}), 5)
        notes.append(f"skipped, not pictures of a class: {len(skipped)} ({told})")
    return Part(
        images=[*training, *validation],
        labels=[],
        class_names=tuple(names),
        validation=len(validation),
        test_digests=test,
        test_is_drawn=drawn,
        notes=tuple(notes),
    )


def _training_folder(root: Path, version: int) -> str:
    """`train`, or an empty string if the class folders are in `root` itself."""
    if (root / "train").is_dir():
        return "train"
    files = (file for file in root.glob("*/*") if not is_system_folder(file.parent.name))
    if (
        version == 1
        or (root / "test").is_dir()
        or not any(is_picture(file) and file.is_file() for file in files)
    ):
        raise DataError(
            f"there is no folder {root / 'train'}; put images into {root}/train/<class>/, "
            f"one folder for each class, or into {root}/<class>/"
        )
    for name in VALIDATION:
        inside = [*(root / name).glob("*")]
        if any(path.is_dir() for path in inside) and not any(map(is_picture, inside)):
            raise DataError(
                f"{root} has a folder {name} beside its class folders; move the latter into "
                f"{root / 'train'} to tell them apart"
            )
    return ""


def _folders(place: Path) -> list[Path]:
    """The folders there for classes or splits, sorted: no system's, no study's own beside them."""
    found = [path for path in sorted(place.iterdir()) if not is_system_folder(path.name)]
    return [it for it in found if it.is_dir() and not [*it.glob(f"*/{STUDY_MARK}")]]


def _scan(
    root: Path, split: str, skipped: list[Path], known: Sequence[str] | None = None
) -> list[str]:
    """The pictures as "split/<class>/<file>", sorted; split may be "". known: possible classes."""
    above, classes = sorted((root / split).iterdir()), _folders(root / split)
    below = [path for folder in classes for path in sorted(folder.iterdir())]
    links = [path for path in above if not is_system_folder(path.name)]
    links += [path for path in below if is_picture(path)]
    if lost := [path for path in links if path.is_symlink() and not path.exists()]:
        raise DataError(f"{listed(lost)}: broken link; fix or delete it")
    files = [path for path in below if path.is_file() and is_picture(path)]
    refuse_names(classes)
    refuse_names(files)
    skipped += sorted({*above, *below} - {*classes, *files})
    if empty := sorted({*classes} - {file.parent for file in files}):
        raise DataError(f"{listed(empty)} has no images; add some or delete it")
    if not files:
        raise DataError(f"{shown(root / split)} has no image folders; make one for each class")
    found = sorted(file.relative_to(root).as_posix() for file in files)
    if known and (unknown := sorted({class_of(file) for file in found} - set(known))):
        raise DataError(
            f"class {', '.join(map(repr, unknown))} of {root / split} is not in {root / 'train'}; "
            "give it training images or delete it"
        )
    return found


def _require_of_each_class(
    training: Sequence[str], class_names: Sequence[str], least: int, folder: Path
) -> None:
    sizes = Counter(class_of(file) for file in training)
    for name in class_names:
        if sizes[name] < least:
            raise DataError(
                f"class {name!r} of {folder} has {sizes[name]} images for training, without test "
                f"images and copies; give it at least {least}, or delete it"
            )


def _draw(root: Path, split: str, files: Sequence[str]) -> list[str]:
    """Test images drawn from `files` by class; the same ones on every machine."""
    labels = [class_of(file) for file in files]
    classes = sorted(set(labels))
    _require_of_each_class(files, classes, 3, root / split)  # for training, validation and test
    read_pictures([root / file for file in files], (1, 1, 1))  # checks them while all are available
    _, drawn = stratified(labels, share(len(files), len(classes)), 0, "test")
    return [files[index] for index in drawn]
