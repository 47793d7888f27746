"""The registry of data sets: choose one, load its training or its test examples.

Names: those in DATASET_NAMES, and "folder:PATH" for a person's own images.
"""

from dataclasses import replace
from pathlib import Path

from data import digits, folder
from data.errors import DataError
from data.examples import DatasetInfo, Examples, normalisation, split, thinned
from data.mirroring import mirroring_words
from data.names import DATASET_NAMES, default_data_dir
from data.preparation import Reading
from data.published import PUBLISHED, Published

__all__ = [
    "DATASET_NAMES",
    "DataError",
    "DatasetInfo",
    "Examples",
    "Reading",
    "canonical_name",
    "choose_dataset",
    "default_data_dir",
    "has_own_size",
    "has_same_test",
    "load_test",
    "load_training",
    "normalisation",
    "split",
    "thinned",
    "verify",
]

_READING = Reading()


def canonical_name(name: str) -> str:
    """The name that stays right in another folder: a folder's path made absolute.

    Raises DataError for a path that can be none.
    """
    if not name.startswith(folder.PREFIX):
        return name
    return f"{folder.PREFIX}{folder.root_of(name)}"


def choose_dataset(data_dir: Path) -> tuple[str, str | None]:
    """What to run on where no data set is named, and why where it is only the substitute.

    ("fashion_mnist", None) where its training files are in `data_dir` or can be fetched, which
    is then done; ("digits", a sentence) where neither holds: known within about 3 s where nobody
    answers.
    """
    try:
        PUBLISHED["fashion_mnist"].read(data_dir, train=True)
    except DataError as error:
        return "digits", str(error)
    return "fashion_mnist", None


def load_training(
    name: str, data_dir: Path, *, reading: Reading = _READING
) -> tuple[DatasetInfo, Examples]:
    """All training examples of data set `name`; no test image is opened.

    Files that are missing or damaged in `data_dir` are fetched where there are published ones.
    `reading`: what a study has fixed. Raises DataError for an unknown name, and for files that are
    absent, damaged or unfit.
    """
    info, examples = _load_training(name, data_dir, reading)
    if reading.mirror_changes_class is not None:
        info = replace(info, mirror_changes_class=reading.mirror_changes_class)
    if info.mirror_changes_class or not has_own_size(name):
        info = replace(info, notes=(*info.notes, mirroring_words(info.mirror_changes_class)))
    return info, examples


def _load_training(name: str, data_dir: Path, reading: Reading) -> tuple[DatasetInfo, Examples]:
    if name.startswith(folder.PREFIX):
        return folder.load_training(name, data_dir, reading)
    _refuse_size(name, reading.image_size)
    if name == "digits":
        return digits.load_training()
    return _published(name).load_training(name, data_dir)


def load_test(name: str, data_dir: Path, *, reading: Reading = _READING) -> Examples:
    """All test examples of data set `name`, as `load_training`. For search.finalize alone."""
    if name.startswith(folder.PREFIX):
        return folder.load_test(name, data_dir, reading)
    _refuse_size(name, reading.image_size)
    if name == "digits":
        return digits.load_test()
    return _published(name).load_test(data_dir)


def has_same_test(info: DatasetInfo, data_dir: Path, *, version: int) -> bool:
    """Whether classes and test images of a data set are still those of `info`; decodes none.

    `version`: see `Reading`.
    """
    if not info.name.startswith(folder.PREFIX):
        return True
    layout = folder.read_layout(info.name, data_dir, version=version)
    return (layout.class_names, layout.test_digests) == (info.class_names, info.test_digests)


def verify(name: str, data_dir: Path, *, reading: Reading = _READING) -> tuple[DatasetInfo, int]:
    """Loads the training examples, checks that the test's files are whole, and counts these.

    Fetches what is missing. Nothing of the test images but their number comes out. Raises
    DataError as `load_training` does.
    """
    info, _ = load_training(name, data_dir, reading=reading)
    return info, len(load_test(name, data_dir, reading=reading))


def _published(name: str) -> Published:
    try:
        return PUBLISHED[name]
    except KeyError:
        raise DataError(
            f"unknown data set {name!r}; choose {', '.join(DATASET_NAMES)} or folder:PATH"
        ) from None


def has_own_size(name: str) -> bool:
    """Whether the images have one, which no study chooses."""
    return not name.startswith(folder.PREFIX)


def _refuse_size(name: str, image_size: int | None) -> None:
    if name in DATASET_NAMES and image_size is not None:
        raise DataError(f"{name} has its own image size; leave out {image_size} or use folder:PATH")
