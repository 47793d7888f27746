"""Which files of a folder are training, validation and test images; none of them is decoded.

PATH/train/<class>/* and, if given, PATH/test/<class>/*. PATH/val/<class>/* (or valid, validation),
if given, are the validation images. Without PATH/train the classes lie in PATH itself. Without
PATH/test a fifth of the images is held out for the test, by class, for good (see
`data.folders.held_out`).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError, listed, refuse_names, shown
from data.folders.files import is_picture, is_system_folder
from data.folders.held_out import file_digest, held_out
from data.folders.pictures import read_pictures

VALIDATION = ("val", "valid", "validation")
HELD_OUT = 0.2  # for the test where there is no PATH/test, and for validation


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Files as "train/<class>/<file>" below `root`, or "<class>/<file>" without such a folder.

    learned: for training, then `validation` of them for validation; 0: it is to be drawn.
    test_digests: the test images alike, with the digests of their files.
    test_is_drawn: they were held out; the folder has none of its own.
    notes: what a person should know, a sentence each.
    """

    root: Path
    class_names: tuple[str, ...]
    learned: tuple[str, ...]
    validation: int
    test_digests: Mapping[str, str]
    test_is_drawn: bool
    notes: tuple[str, ...]


def read_layout(root: Path, data_dir: Path, *, version: int = 2) -> Layout:
    """The files below `root` by split; a split that is drawn is stored in `data_dir`.

    `version`: see `data.folders.preparation.Reading`. Raises DataError for a folder that is no data
    set, with all that is wrong of one kind at once.
    """
    try:
        return _read(root, data_dir, version)
    except OSError as error:
        raise DataError(
            f"cannot read {root}: {error}; check the path and its permissions"
        ) from error


def class_of(file: str) -> str:
    """The class of ".../<class>/<file>". One name in two spellings of Unicode is one class."""
    return unicodedata.normalize("NFC", file.split("/")[-2])


def share(count: int, classes: int) -> int:
    """How many of `count` examples are set aside: HELD_OUT of them, but one of each class."""
    return max(round(HELD_OUT * count), classes)


def _read(root: Path, data_dir: Path, version: int) -> Layout:
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
    notes = [f"validation: the {len(validation)} pictures of {name}/" for name in own]
    drawn = not (split and (root / "test").is_dir())
    if drawn:
        test = held_out(root, training, data_dir, lambda: _draw(root, split, training))
        training = [file for file in training if file not in test]
        notes.append(
            f"test: there is no folder {shown(root / 'test')}, so {len(test)} pictures are held "
            "out, drawn by class once and for all"
        )
    else:
        test = {file: file_digest(root / file) for file in _scan(root, "test", skipped, names)}
    _require_of_each_class(training, names, 1 if own else 2, root / split)
    for part, what in ((list(test), "test"), (validation, "validation")):
        absent = sorted(set(names) - {class_of(file) for file in part})
        if part and absent:
            notes.append(f"warning: no {what} pictures of class {', '.join(map(repr, absent))}")
    if skipped:
        told = listed(sorted({path.name for path in skipped}), 5)
        notes.append(f"skipped, for being no pictures of a class: {len(skipped)} ({told})")
    return Layout(
        root=root,
        class_names=tuple(names),
        learned=(*training, *validation),
        validation=len(validation),
        test_digests=test,
        test_is_drawn=drawn,
        notes=tuple(notes),
    )


def _training_folder(root: Path, version: int) -> str:
    """`train`, or nothing where the classes' folders lie in `root` itself."""
    if (root / "train").is_dir():
        return "train"
    if version > 1 and root.is_dir() and not (root / "test").is_dir():
        files = (file for file in root.glob("*/*") if not is_system_folder(file.parent.name))
        if any(is_picture(file) and file.is_file() for file in files):
            return ""
    raise DataError(
        f"there is no folder {root / 'train'}; put images into {root}/train/<class>/, "
        f"one folder for each class, or into {root}/<class>/"
    )


def _scan(
    root: Path, split: str, skipped: list[Path], known: Sequence[str] | None = None
) -> list[str]:
    """The pictures in root/split/<class>/, sorted, as "split/<class>/<file>"; split may be "".

    known: the classes that there may be.
    """
    above = sorted((root / split).iterdir())
    classes = [path for path in above if path.is_dir() and not is_system_folder(path.name)]
    refuse_names(classes)
    below = [path for folder in classes for path in sorted(folder.iterdir())]
    files = [path for path in below if path.is_file() and is_picture(path)]
    refuse_names(files)
    others = sorted({*above, *below} - {*classes, *files})
    left = [path for path in others if path.is_file() or is_system_folder(path.name)]
    skipped += left
    if misplaced := [path for path in others if path not in left]:
        raise DataError(
            f"{listed(misplaced)} is a folder or a link to nothing; put pictures directly into "
            "their class's folder"
        )
    filled = {file.parent for file in files}
    if empty := [folder for folder in classes if folder not in filled]:
        raise DataError(f"{listed(empty)} has no images; give it some or delete it")
    if not files:
        raise DataError(f"{shown(root / split)} has no folders of images; make one for each class")
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
                f"class {name!r} of {folder} has {sizes[name]} images to train with; "
                f"give it at least {least}, or delete it"
            )


def _draw(root: Path, split: str, files: Sequence[str]) -> list[str]:
    """Test images among `files`, by class; the same ones everywhere."""
    from sklearn.model_selection import train_test_split  # a second to import

    classes = sorted({class_of(file) for file in files})
    _require_of_each_class(files, classes, 3, root / split)  # for training, validation and test
    read_pictures([root / file for file in files], (1, 1, 1))  # all whole, while all are in reach
    _, drawn = train_test_split(
        files,
        test_size=share(len(files), len(classes)),
        stratify=[class_of(file) for file in files],
        random_state=0,
    )
    return sorted(drawn)
