"""A person's own images as a data set: PATH/train/<class>/* and, if given, PATH/test/<class>/*.

Without PATH/test a fifth of the images is held out for the test, by class. Which ones is stored
under the data directory at first sight: they stay test images, and new files join training
(see `data.held_out`).
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from data.examples import DataError, DatasetInfo, Examples
from data.held_out import file_digest, held_out, keep
from data.pictures import channels_of, read_pictures

PREFIX = "folder:"
DEFAULT_SIZE = 32
LARGEST_SIZE = 1024
HELD_OUT = 0.2  # for the test where there is no PATH/test, and for validation
_SPLIT_SEED = 0  # the same files give the same split everywhere


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which files are what.

    training: sorted, as "train/<class>/<file>" below `root`.
    test_digests: the test images alike, with the digests of their files; see `data.held_out`.
    test_is_drawn: they were held out; the folder has none of its own.
    """

    root: Path
    class_names: tuple[str, ...]
    training: tuple[str, ...]
    test_digests: Mapping[str, str]
    test_is_drawn: bool

    @property
    def test(self) -> tuple[str, ...]:
        return tuple(self.test_digests)

    def examples(self, files: tuple[str, ...], image_shape: tuple[int, int, int]) -> Examples:
        """Raises DataError for a file that is no picture."""
        images_NCHW = read_pictures([self.root / file for file in files], image_shape)
        label_of = {name: label for label, name in enumerate(self.class_names)}
        labels = [label_of[_class_of(file)] for file in files]
        return Examples(images_NCHW=images_NCHW, labels_N=torch.tensor(labels))

    def image_shape(self, size: int | None) -> tuple[int, int, int]:
        """C, H, W: grey where all training images are; the test images are not asked."""
        size = DEFAULT_SIZE if size is None else size
        if not 1 <= size <= LARGEST_SIZE:
            raise DataError(f"image size {size} is not between 1 and {LARGEST_SIZE} pixels")
        return (channels_of([self.root / file for file in self.training]), size, size)


def load_training(
    name: str, data_dir: Path, image_size: int | None
) -> tuple[DatasetInfo, Examples]:
    layout = read_layout(name, data_dir)
    image_shape = layout.image_shape(image_size)
    classes = layout.class_names
    info = DatasetInfo(
        name=f"{PREFIX}{layout.root}",
        title=layout.root.name,
        class_names=classes,
        image_shape=image_shape,
        # Classes called by one letter or digit are taken for pictures of it.
        mirror_changes_class=all(len(name) == 1 and name.isalnum() for name in classes),
        validation_count=_share(len(layout.training), len(classes)),
        training_count=len(layout.training),
        test_digests=layout.test_digests,
        test_is_drawn=layout.test_is_drawn,
    )
    return info, layout.examples(layout.training, image_shape)


def load_test(name: str, data_dir: Path, image_size: int | None) -> Examples:
    layout = read_layout(name, data_dir)
    return layout.examples(layout.test, layout.image_shape(image_size))


def keep_held_out(name: str, data_dir: Path, digests: Mapping[str, str]) -> None:
    """Hold out what was held out elsewhere, if nothing was here; see `data.held_out.keep`."""
    keep(root_of(name), digests, data_dir)


def root_of(name: str) -> Path:
    """The absolute path in "folder:PATH", which need not exist."""
    given = name.removeprefix(PREFIX)
    _refuse_control_characters(given)
    try:
        root = Path(given).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~somebody unknown
        raise DataError(f"cannot find {given}: {error}; check the path") from error
    _refuse_control_characters(str(root))
    if not given:
        raise DataError(
            "folder: lacks its path; give folder:PATH with images in PATH/train/<class>/"
        )
    return root


def read_layout(name: str, data_dir: Path) -> Layout:
    """The files behind "folder:PATH" by split, none decoded; stores a held-out split once drawn."""
    root = root_of(name)
    try:
        if not (root / "train").is_dir():
            raise DataError(
                f"there is no folder {root / 'train'}; put images into {root}/train/<class>/, "
                "one folder for each class"
            )
        return _layout(root, data_dir)
    except OSError as error:
        raise DataError(f"cannot read {root}: {error}; check the path and its rights") from error


def _layout(root: Path, data_dir: Path) -> Layout:
    training = _scan(root, "train")
    class_names = tuple(sorted({_class_of(file) for file in training}))
    if len(class_names) < 2:
        raise DataError(f"{root / 'train'} has a single class; give at least two folders of images")
    if (root / "test").is_dir():
        test = _scan(root, "test")
        for file in test:
            if _class_of(file) not in class_names:
                raise DataError(
                    f"class {_class_of(file)!r} of {root / 'test'} is not in {root / 'train'}; "
                    "give it training images or take it away"
                )
        digests = {file: file_digest(root / file) for file in test}
    else:
        digests = _held_out(root, training, data_dir)
        training = [file for file in training if file not in digests]
    _require_of_each_class(training, class_names, 2, root)
    return Layout(
        root=root,
        class_names=class_names,
        training=tuple(training),
        test_digests=digests,
        test_is_drawn=not (root / "test").is_dir(),
    )


def _class_of(file: str) -> str:
    return file.split("/")[1]


def _scan(root: Path, split: str) -> list[str]:
    """The files of one split, sorted; hidden ones and what lies beside the classes left out."""
    files = []
    for folder in (root / split).iterdir():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        _refuse_control_characters(folder.name)
        names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
        if not names:
            raise DataError(f"{folder} has no images; give it some or delete it")
        for name in names:
            _refuse_control_characters(name)
            if not (folder / name).is_file():
                raise DataError(
                    f"{folder / name} is not a file; images lie directly in their class's folder"
                )
            files.append(f"{split}/{folder.name}/{name}")
    if not files:
        raise DataError(f"{root / split} has no folders of images; make one for each class")
    return sorted(files)


def _refuse_control_characters(name: str) -> None:
    """Also bytes that are no text, and separators of lines: none can be shown or stored."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise DataError(f"{name!r} has control characters in its name; rename it")


def _require_of_each_class(
    training: list[str], class_names: Iterable[str], least: int, root: Path
) -> None:
    sizes = Counter(_class_of(file) for file in training)
    for name in class_names:
        if sizes[name] < least:
            raise DataError(
                f"class {name!r} of {root / 'train'} has {sizes[name]} images to train with; "
                f"give it at least {least}, or delete it"
            )


def _share(count: int, classes: int) -> int:
    """How many of `count` examples are set aside: HELD_OUT of them, but one of each class."""
    return max(round(HELD_OUT * count), classes)


def _held_out(root: Path, files: list[str], data_dir: Path) -> dict[str, str]:
    """The test images among `files`, see `data.held_out`."""

    def draw() -> list[str]:
        from sklearn.model_selection import train_test_split  # a second to import

        classes = sorted({_class_of(file) for file in files})
        _require_of_each_class(files, classes, 3, root)  # for training, validation and test
        _, drawn = train_test_split(
            files,
            test_size=_share(len(files), len(classes)),
            stratify=[_class_of(file) for file in files],
            random_state=_SPLIT_SEED,
        )
        return sorted(drawn)

    return held_out(root, files, data_dir, draw)
