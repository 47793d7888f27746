"""The registry of data sets: find one, load its training or its test examples. Loads no torch.

Beside the names in DATASETS there are "folder:PATH" for a person's own pictures, "npz:FILE" for an
archive of arrays and "FILE.py:FUNCTION" for a function that returns them; see `find_dataset`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path

from data.errors import DataError, refuse_names
from data.extensions import is_reference
from data.folders.preparation import Reading

if TYPE_CHECKING:
    from data.examples import DatasetInfo, Examples

FOLDER, NPZ = "folder:", "npz:"
# How data sets that are not in the registry are named, and what they are.
FORMS = {
    "folder:PATH": "your own pictures, in PATH/train/<class>/ and PATH/test/<class>/",
    "npz:FILE": "arrays x_train, y_train, x_test, y_test, or as MedMNIST names them",
    "FILE.py:FUNCTION": "what your function returns: images, labels and class names",
}
_MIRRORING = {
    True: "mirroring: a mirrored picture may belong to another class, so none is flipped, whatever "
    "the augmentation is called; --mirror safe allows it",
    False: "mirroring: a mirrored picture is taken to belong to the same class, so augmentation "
    "may flip it; --mirror unsafe forbids it",
}
_READING = Reading()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One data set: an entry of DATASETS, or what `find_dataset` makes of a name.

    Attributes:
        title: for people: "Fashion-MNIST".
        description: one line for --help.
        load_training: (name, data_dir, reading) -> information and all training examples; opens no
            test image.
        load_test: (name, data_dir, reading) -> all test examples. For search.finalize alone.
        has_own_size: False where a study chooses the size of the images.
        has_same_test: (info, data_dir, reading's version) -> whether classes and test images are
            still those of `info`; decodes none.
        path: the person's file or folder, which may be moved; None for a registered one.
    """

    title: str
    description: str
    load_training: Callable[[str, Path, Reading], tuple[DatasetInfo, Examples]]
    load_test: Callable[[str, Path, Reading], Examples]
    has_own_size: bool = True
    has_same_test: Callable[[DatasetInfo, Path, int], bool] = lambda *_: True
    path: Path | None = None


def from_arrays(
    load: Callable[[bool, Path], Any],
    *,
    title: str,
    description: str,
    mirror_changes_class: bool | None = None,
    validation_count: int | None = None,
) -> Dataset:
    """A data set that is a function of (train, data_dir) to (images, labels, class names).

    Args:
        load: images are (N, H, W) or (N, H, W, C) with C 1 or 3, uint8 or numbers of any range,
            which is then scaled to 0 to 255; labels integers (N,), 0 up. With `train` false the
            test examples, which are not asked for before the final test.
        mirror_changes_class: a mirrored image may belong to another class; None: guessed from the
            classes' names.
        validation_count: how many serve for validation by default; None: a fifth.
    """
    facts = (title, mirror_changes_class, validation_count)
    return Dataset(
        title=title,
        description=description,
        load_training=_lazily("data.arrays:load_training", load, *facts),
        load_test=_lazily("data.arrays:load_test", load),
    )


def _lazily(where: str, *first: Any) -> Callable[..., Any]:
    """The function at "module:name" with its first arguments; imported, with torch, when called."""
    module, name = where.split(":")
    return lambda *rest: getattr(import_module(module), name)(*first, *rest)


DATASETS: dict[str, Dataset] = {
    "fashion_mnist": from_arrays(
        _lazily("data.published:load_idx", "FashionMNIST", None),
        title="Fashion-MNIST",
        description="70 000 grey images of 28x28, 10 kinds of clothing",
        validation_count=10_000,
    ),
    "mnist": from_arrays(
        _lazily("data.published:load_idx", "MNIST", "0123456789"),
        title="MNIST",
        description="70 000 grey images of 28x28, handwritten digits",
        validation_count=5_000,
    ),
    "kmnist": from_arrays(
        _lazily("data.published:load_idx", "KMNIST", None),
        title="Kuzushiji-MNIST",
        description="70 000 grey images of 28x28, 10 handwritten Japanese characters",
        mirror_changes_class=True,
        validation_count=10_000,
    ),
    "cifar10": from_arrays(
        _lazily("data.published:load_cifar", "CIFAR10", ""),
        title="CIFAR-10",
        description="60 000 colour images of 32x32, 10 kinds of animals and vehicles",
        validation_count=10_000,
    ),
    "cifar100": from_arrays(
        _lazily("data.published:load_cifar", "CIFAR100", "fine_"),
        title="CIFAR-100",
        description="60 000 colour images of 32x32, 100 kinds of things",
        validation_count=10_000,
    ),
    "cifar100_coarse": from_arrays(
        _lazily("data.published:load_cifar", "CIFAR100", "coarse_"),
        title="CIFAR-100 (20 super-classes)",
        description="CIFAR-100 by its 20 super-classes",
        validation_count=10_000,
    ),
    "digits": from_arrays(
        _lazily("data.published:load_digits"),
        title="digits",
        description="1 797 grey images of 8x8, handwritten digits, which come with scikit-learn",
    ),
}


def dataset_choices() -> str:
    """`fashion_mnist, mnist, ..., folder:PATH, npz:FILE or FILE.py:FUNCTION`."""
    *names, last = [*DATASETS, *FORMS]
    return f"{', '.join(names)} or {last}"


def find_dataset(name: str) -> Dataset:
    """The data set called `name`, registered or of one of the FORMS; nothing is read of it.

    Raises DataError for an unknown name, and a path that can be none.
    """
    if name in DATASETS:
        return DATASETS[name]
    if name.startswith(FOLDER):
        root = _absolute(name, name.removeprefix(FOLDER))
        return Dataset(
            title=root.name,
            description=FORMS["folder:PATH"],
            load_training=_lazily("data.folders.folder:load_training", root),
            load_test=_lazily("data.folders.folder:load_test", root),
            has_own_size=False,
            has_same_test=_lazily("data.folders.folder:has_same_test", root),
            path=root,
        )
    if name.startswith(NPZ):
        path = _absolute(name, name.removeprefix(NPZ))
        load, description = _lazily("data.arrays:read_npz", path), FORMS["npz:FILE"]
        has_same_test = _lazily("data.arrays:npz_has_same_test", path)
        found = from_arrays(load, title=path.stem, description=description)
        return replace(found, path=path, has_same_test=has_same_test)
    if is_reference(name):
        file, _, function = name.rpartition(":")
        path = _absolute(name, file)
        load = _lazily("data.arrays:call", f"{path}:{function}")
        found = from_arrays(load, title=path.stem, description=FORMS["FILE.py:FUNCTION"])
        return replace(found, path=path)
    raise DataError(f"unknown data set {name!r}; choose {dataset_choices()}")


def canonical_name(name: str) -> str:
    """The name that stays right in another folder: with an absolute path. Raises as above."""
    path = find_dataset(name).path
    if path is None:
        return name
    if name.startswith((FOLDER, NPZ)):
        return f"{name.partition(':')[0]}:{path}"
    return f"{path}:{name.rpartition(':')[2]}"


def _absolute(name: str, given: str) -> Path:
    refuse_names([given])
    if not given:
        raise DataError(f"{name!r} lacks its path; choose {dataset_choices()}")
    try:
        path = Path(given).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~somebody unknown
        raise DataError(f"cannot find {given}: {error}; check the path") from error
    refuse_names([path])
    return path


def load_training(
    name: str, data_dir: Path, *, reading: Reading = _READING
) -> tuple[DatasetInfo, Examples]:
    """All training examples of data set `name`; no test image is opened.

    Files that are missing or damaged in `data_dir` are fetched where there are published ones.
    `reading`: what a study has fixed. Raises DataError for an unknown name, and for files that are
    absent, damaged or unfit.
    """
    found = _find(name, reading)
    info, examples = found.load_training(canonical_name(name), data_dir, reading)
    if reading.mirror_changes_class is not None:
        info = replace(info, mirror_changes_class=reading.mirror_changes_class)
    if info.mirror_changes_class or found.path is not None:
        info = replace(info, notes=(*info.notes, _MIRRORING[info.mirror_changes_class]))
    return info, examples


def load_test(name: str, data_dir: Path, *, reading: Reading = _READING) -> Examples:
    """All test examples of data set `name`, as `load_training`. For search.finalize alone."""
    return _find(name, reading).load_test(name, data_dir, reading)


def count_test(name: str, data_dir: Path, *, reading: Reading = _READING) -> int:
    """How many test examples there are, all of them read: nothing else of them comes out."""
    return len(load_test(name, data_dir, reading=reading))


def verify(name: str, data_dir: Path, *, reading: Reading = _READING) -> tuple[DatasetInfo, int]:
    """Loads the training examples, checks that the test's files are whole, and counts these.

    Fetches what is missing. Nothing of the test images but their number comes out. Raises
    DataError as `load_training` does.
    """
    info, _ = load_training(name, data_dir, reading=reading)
    return info, count_test(name, data_dir, reading=reading)


def has_same_test(info: DatasetInfo, data_dir: Path, *, version: int) -> bool:
    """Whether classes and test images of a data set are still those of `info`; decodes none.

    `version`: see `Reading`.
    """
    return find_dataset(info.name).has_same_test(info, data_dir, version)


def keep_held_out(name: str, data_dir: Path, digests: Mapping[str, str]) -> None:
    """Hold out of a folder what was held out elsewhere, if nothing was here yet."""
    from data.folders.held_out import keep

    if name.startswith(FOLDER):
        keep(_absolute(name, name.removeprefix(FOLDER)), digests, data_dir)


def choose_dataset(data_dir: Path) -> tuple[str, str | None]:
    """What to run on where no data set is named, and why where it is only the substitute.

    ("fashion_mnist", None) where its training files are in `data_dir` or can be fetched, which
    is then done; ("digits", a sentence) where neither holds.
    """
    from data.published import read_idx

    try:
        read_idx("FashionMNIST", True, data_dir)
    except DataError as error:
        return "digits", str(error)
    return "fashion_mnist", None


def default_data_dir() -> Path:
    """$SEARCH_DATA_DIR; else data/raw in a checkout, and the user's own data folder elsewhere.

    Versions up to 0.1 kept files inside the installed package: where some are, they are found.
    """
    given = os.environ.get("SEARCH_DATA_DIR")
    if given:
        return Path(given).expanduser()
    raw, project = Path(__file__).parent / "raw", Path(__file__).parents[1] / "pyproject.toml"
    in_checkout = project.is_file() and 'name = "cnn-search"' in project.read_text(encoding="utf-8")
    if in_checkout or (raw.is_dir() and any(raw.iterdir())):
        return raw
    return user_data_path("cnn-search", appauthor=False)


def _find(name: str, reading: Reading) -> Dataset:
    found = find_dataset(name)
    if found.has_own_size and reading.image_size is not None:
        raise DataError(
            f"{name} has its own image size; leave out {reading.image_size} or use folder:PATH"
        )
    return found
