"""A person's own images as a data set: PATH/train/<class>/* and, if given, PATH/test/<class>/*.

PATH/val/<class>/* (or valid, validation), if given, are the validation images. Without PATH/train
the classes lie in PATH itself. Without PATH/test a fifth of the images is held out for the test, by
class. Which ones is stored under the data directory at first sight: they stay test images, and new
files join training (see `data.held_out`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from data.classes import class_of, has_classes, refuse_names, scan_classes
from data.errors import DataError
from data.examples import DatasetInfo, Examples
from data.held_out import file_digest, held_out, keep
from data.listing import listed, shown
from data.mirroring import mirror_changes_class
from data.pictures import check_pictures, read_pictures
from data.preparation import Reading
from data.prepared import Prepared, prepare
from data.scan import LeftOut

PREFIX = "folder:"
VALIDATION = ("val", "valid", "validation")
HELD_OUT = 0.2  # for the test where there is no PATH/test, and for validation
_SPLIT_SEED = 0  # the same files give the same split everywhere


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which files are what, none of them decoded.

    training, validation: sorted, as "train/<class>/<file>" below `root`, or "<class>/<file>" where
    there is no folder of that name. validation: empty where it is to be drawn from training.
    test_digests: the test images alike, with the digests of their files; see `data.held_out`.
    test_is_drawn: they were held out; the folder has none of its own.
    version: see `Reading`. notes: what a person should know, a sentence each.
    """

    root: Path
    class_names: tuple[str, ...]
    training: tuple[str, ...]
    validation: tuple[str, ...]
    test_digests: Mapping[str, str]
    test_is_drawn: bool
    version: int
    notes: tuple[str, ...]

    @property
    def test(self) -> tuple[str, ...]:
        return tuple(self.test_digests)

    @property
    def learned(self) -> tuple[str, ...]:
        """The files for training, then those for validation."""
        return self.training + self.validation

    def examples(self, files: tuple[str, ...], prepared: Prepared) -> Examples:
        """Raises DataError for files that are no pictures, all at once."""
        images_NCHW = read_pictures(
            [self.root / file for file in files], prepared.image_shape, prepared.preparation
        )
        label_of = {name: label for label, name in enumerate(self.class_names)}
        labels = [label_of[class_of(file, version=self.version)] for file in files]
        return Examples(images_NCHW=images_NCHW, labels_N=torch.tensor(labels))


def load_training(name: str, data_dir: Path, reading: Reading) -> tuple[DatasetInfo, Examples]:
    layout = read_layout(name, data_dir, version=reading.version, check=True)
    prepared = prepare(layout.root, layout.learned, reading)
    examples = layout.examples(layout.learned, prepared)
    classes, own = layout.class_names, len(layout.validation)
    info = DatasetInfo(
        name=f"{PREFIX}{layout.root}",
        title=layout.root.name,
        class_names=classes,
        image_shape=prepared.image_shape,
        mirror_changes_class=mirror_changes_class(classes, version=reading.version),
        validation_count=own or _share(len(layout.training), len(classes)),
        training_count=len(layout.learned),
        test_digests=layout.test_digests,
        test_is_drawn=layout.test_is_drawn,
        has_own_validation=own > 0,
        preparation=prepared.preparation,
        notes=(*prepared.notes(reading.image_size), *layout.notes),
    )
    return info, examples


def load_test(name: str, data_dir: Path, reading: Reading) -> Examples:
    layout = read_layout(name, data_dir, version=reading.version)
    return layout.examples(layout.test, prepare(layout.root, layout.learned, reading))


def keep_held_out(name: str, data_dir: Path, digests: Mapping[str, str]) -> None:
    """Hold out what was held out elsewhere, if nothing was here; see `data.held_out.keep`."""
    keep(root_of(name), digests, data_dir)


def root_of(name: str) -> Path:
    """The absolute path in "folder:PATH", which need not exist."""
    given = name.removeprefix(PREFIX)
    refuse_names([given], Path())
    try:
        root = Path(given).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~somebody unknown
        raise DataError(f"cannot find {given}: {error}; check the path") from error
    refuse_names([str(root)], Path())
    if not given:
        raise DataError(
            "folder: lacks its path; give folder:PATH with images in PATH/train/<class>/"
        )
    return root


def read_layout(
    name: str, data_dir: Path, *, version: int = Reading().version, check: bool = False
) -> Layout:
    """The files behind "folder:PATH" by split, none decoded; stores a held-out split once drawn.

    `check`: before any is held out, and out of reach, refuse those that are no pictures.
    """
    root = root_of(name)
    try:
        return _layout(root, data_dir, version, check=check)
    except OSError as error:
        raise DataError(f"cannot read {root}: {error}; check the path and its rights") from error


def _layout(root: Path, data_dir: Path, version: int, *, check: bool) -> Layout:
    skipped = LeftOut()
    split = _training_folder(root, version)
    training = scan_classes(root, split, skipped)
    names = sorted({class_of(file, version=version) for file in training})
    if len(names) < 2:
        raise DataError(f"{root / split} has a single class; give at least two folders of images")
    own = _validation_folder(root, split, version)
    validation = _scan_known(root, own, names, skipped, version) if own else []
    notes = [f"validation: the {len(validation)} pictures of {own}/"] if own else []
    drawn = not (split and (root / "test").is_dir())
    if drawn:
        test = _held_out(root, training, data_dir, version, check=check)
        training = [file for file in training if file not in test]
        notes.append(
            f"test: there is no folder {shown(root / 'test')}, so {len(test)} pictures are held "
            "out, drawn by class once and for all"
        )
    else:
        files = _scan_known(root, "test", names, skipped, version)
        test = {file: file_digest(root / file) for file in files}
    _require_of_each_class(training, names, 1 if own else 2, root / split, version)
    for part, what in ((list(test), "test"), (validation, "validation")):
        absent = set(names) - {class_of(file, version=version) for file in part}
        if part and absent:
            notes.append(f"warning: no {what} pictures of {_quoted(sorted(absent))}")
    words = skipped.in_words()
    return Layout(
        root=root,
        class_names=tuple(names),
        training=tuple(training),
        validation=tuple(validation),
        test_digests=test,
        test_is_drawn=drawn,
        version=version,
        notes=(*notes, words) if words else tuple(notes),
    )


def _training_folder(root: Path, version: int) -> str:
    """`train`, or nothing where the classes' folders lie in `root` itself."""
    if (root / "train").is_dir():
        return "train"
    if version > 1 and root.is_dir() and not (root / "test").is_dir() and has_classes(root):
        return ""
    raise DataError(
        f"there is no folder {root / 'train'}; put images into {root}/train/<class>/, "
        f"one folder for each class, or into {root}/<class>/"
    )


def _validation_folder(root: Path, split: str, version: int) -> str:
    """The name of the folder beside `train` with images for validation; nothing without one."""
    found = [name for name in VALIDATION if split and version > 1 and (root / name).is_dir()]
    if len(found) > 1:
        raise DataError(f"{root} has folders {listed(found)}; keep one, for the validation images")
    return next(iter(found), "")


def _scan_known(
    root: Path, folder: str, names: list[str], skipped: LeftOut, version: int
) -> list[str]:
    """The pictures of a folder beside `train`, all of them of the classes `names`."""
    files = scan_classes(root, folder, skipped)
    unknown = sorted({class_of(file, version=version) for file in files} - set(names))
    if unknown:
        raise DataError(
            f"{_quoted(unknown)} of {root / folder} is not in {root / 'train'}; "
            "give it training images or take it away"
        )
    return files


def _quoted(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"class{'es' * (len(names) > 1)} {', '.join(map(repr, names[:most]))}{more}"


def _require_of_each_class(
    training: list[str], class_names: Iterable[str], least: int, folder: Path, version: int
) -> None:
    sizes = Counter(class_of(file, version=version) for file in training)
    for name in class_names:
        if sizes[name] < least:
            raise DataError(
                f"class {name!r} of {folder} has {sizes[name]} images to train with; "
                f"give it at least {least}, or delete it"
            )


def _share(count: int, classes: int) -> int:
    """How many of `count` examples are set aside: HELD_OUT of them, but one of each class."""
    return max(round(HELD_OUT * count), classes)


def _held_out(
    root: Path, files: list[str], data_dir: Path, version: int, *, check: bool
) -> dict[str, str]:
    """The test images among `files`, see `data.held_out`."""

    def draw() -> list[str]:
        from sklearn.model_selection import train_test_split  # a second to import

        classes = sorted({class_of(file, version=version) for file in files})
        folder = root / _training_folder(root, version)
        least = 3  # for training, validation and test
        _require_of_each_class(files, classes, least, folder, version)
        if check:
            check_pictures([root / file for file in files])
        _, drawn = train_test_split(
            files,
            test_size=_share(len(files), len(classes)),
            stratify=[class_of(file, version=version) for file in files],
            random_state=_SPLIT_SEED,
        )
        return sorted(drawn)

    return held_out(root, files, data_dir, draw)
