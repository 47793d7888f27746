"""Registry of data sets: find one, load its training or test examples. Does not import torch.

Besides the names in DATASETS there are "folder:PATH" for the user's own pictures, "npz:FILE" for an
archive of arrays and "FILE.py:FUNCTION" for a function that returns them; see `find_dataset`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path

from data.errors import DataError, did_you_mean, refuse_names
from data.extensions import is_reference, load_function
from data.folders.preparation import Reading

if TYPE_CHECKING:
    from data.examples import DatasetInfo, Examples

FOLDER, NPZ = "folder:", "npz:"
# Names of data sets outside the registry, and what they stand for.
FORMS = {
    "folder:PATH": "your own pictures, in PATH/<class>/, or in PATH/train/<class>/ and "
    "PATH/test/<class>/",
    "npz:FILE": "arrays x_train, y_train, x_test, y_test, or named as in MedMNIST",
    "FILE.py:FUNCTION": "what your function returns: images, labels and class names",
}
_READING = Reading()
_CIFAR = "none stated (Krizhevsky, 2009)"


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set: an entry of DATASETS, or what `find_dataset` builds from a name.

    load: (train, data_dir) -> (images, labels, class names), or a `data.arrays.Part` of them.
        Images are (N, H, W) or (N, H, W, C) with C 1 or 3, uint8 or numbers of any range, which is
        then scaled to 0 to 255; labels are integers (N,) from 0 up. If `train` is false: the test
        examples, of the same classes and shape, which are not requested before the final test.
    """

    load: Callable[[bool, Path], Any]
    _: KW_ONLY
    title: str  # for display: "Fashion-MNIST"
    description: str = ""  # one line for --help; set if registered
    licence: str = ""  # of the images, as stated by their authors; empty: unknown
    mirror_changes_class: bool | None = None  # see `DatasetInfo`; None: guessed from class names
    validation_count: int | None = None  # default size of the validation set; None: a fifth
    # (info, data_dir) -> whether classes and test images are still those of `info`; decodes none.
    has_same_test: Callable[[DatasetInfo, Path], bool] = lambda *_: True
    path: Path | None = None  # the user's file or folder, which may be moved
    name: str = ""  # valid from any working directory; filled by `find_dataset`
    is_ours: bool = False  # read by our own code alone: both parts agree, and an error is a bug


from_arrays = Dataset  # the name that extensions use
_published = partial(Dataset, is_ours=True)


def _lazily(where: str, *first: Any) -> Callable[..., Any]:
    """The function at "module:name", first arguments bound; imported, with torch, when called."""
    return lambda *rest: resolve_name(where)(*first, *rest)


DATASETS: dict[str, Dataset] = {
    "fashion_mnist": _published(
        _lazily("data.published:load_idx", "FashionMNIST", None),
        title="Fashion-MNIST",
        description="70 000 grey images of 28x28, 10 kinds of clothing",
        licence="MIT (Zalando Research)",
        validation_count=10_000,
    ),
    "mnist": _published(
        _lazily("data.published:load_idx", "MNIST", "0123456789"),
        title="MNIST",
        description="70 000 grey images of 28x28, handwritten digits",
        licence="CC BY-SA 3.0 (LeCun, Cortes, Burges)",
        validation_count=5_000,
    ),
    "kmnist": _published(
        _lazily("data.published:load_idx", "KMNIST", None),
        title="Kuzushiji-MNIST",
        description="70 000 grey images of 28x28, 10 handwritten Japanese characters",
        licence="CC BY-SA 4.0 (ROIS-DS Center for Open Data in the Humanities)",
        mirror_changes_class=True,
        validation_count=10_000,
    ),
    "cifar10": _published(
        _lazily("data.published:load_cifar", "CIFAR10", ""),
        title="CIFAR-10",
        description="60 000 colour images of 32x32, 10 kinds of animals and vehicles",
        licence=_CIFAR,
    ),
    "cifar100": _published(
        _lazily("data.published:load_cifar", "CIFAR100", "fine_"),
        title="CIFAR-100",
        description="60 000 colour images of 32x32, 100 kinds of things",
        licence=_CIFAR,
    ),
    "cifar100_coarse": _published(
        _lazily("data.published:load_cifar", "CIFAR100", "coarse_"),
        title="CIFAR-100 (20 super-classes)",
        description="CIFAR-100 by its 20 super-classes",
        licence=_CIFAR,
    ),
    "digits": _published(
        _lazily("data.published:load_digits"),
        title="digits",
        description="1 797 grey images of 8x8, handwritten digits, which come with this package",
        licence="CC BY 4.0 (Alpaydin, Kaynak; UCI Machine Learning Repository)",
    ),
}


def dataset_choices() -> str:
    """`fashion_mnist, mnist, ..., folder:PATH, npz:FILE or FILE.py:FUNCTION`."""
    *names, last = [*DATASETS, *FORMS]
    return f"{', '.join(names)} or {last}"


def find_dataset(name: str, reading: Reading = _READING) -> Dataset:
    """The data set, registered or in one of the FORMS; reads none of its data. Raises DataError."""
    if not isinstance(name, str):
        got = " ".join(repr(name).split())[:80]
        raise DataError(f"dataset must be text ({dataset_choices()}), but got {got}")
    if name in DATASETS:
        return replace(DATASETS[name], name=name)
    for prefix, module, first in ((FOLDER, "folders.folder", [reading]), (NPZ, "arrays", [])):
        if name.startswith(prefix):
            path = _absolute(name, name.removeprefix(prefix))
            return Dataset(
                _lazily(f"data.{module}:load", path, *first),
                title=path.name.removesuffix(".npz"),
                has_same_test=_lazily(f"data.{module}:has_same_test", path, *first),
                path=path,
                name=f"{prefix}{path}",
                is_ours=prefix == FOLDER,
            )
    if is_reference(name):
        file, _, function = name.rpartition(":")
        path = _absolute(name, file)
        name = f"{path}:{function}"
        return Dataset(
            lambda train, _: load_function(name)(train), title=path.stem, path=path, name=name
        )
    hint = did_you_mean(name, (*DATASETS, *FORMS))
    raise DataError(f"unknown data set {name!r}{hint} (choose {dataset_choices()})")


def canonical_name(name: str) -> str:
    """The name with an absolute path, valid from any working directory. Raises DataError."""
    return find_dataset(name).name


def _absolute(name: str, given: str) -> Path:
    if not given:
        raise DataError(f"{name!r} lacks its path; choose {dataset_choices()}")
    refuse_names([given])
    try:
        path = Path(given).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~unknown_user
        raise DataError(f"cannot find {given}: {error}; check the path") from error
    refuse_names([path])
    return path


def load_training(
    name: str, data_dir: Path, *, reading: Reading = _READING
) -> tuple[DatasetInfo, Examples]:
    """All training examples; no test image is opened. Missing published files are fetched.

    Raises DataError for an unknown name, and for files that are missing, damaged or unsuitable.
    """
    from data import arrays

    if reading.image_size is not None and not name.startswith(FOLDER):
        raise DataError(
            f"{name} has its own image size; leave out {reading.image_size} or use folder:PATH"
        )
    return arrays.load_training(find_dataset(name, reading), data_dir, reading)


def load_test(name: str, data_dir: Path, *, reading: Reading = _READING) -> Examples:
    """All test examples, like `load_training`; only for `finalize`, and `prepare` counts them."""
    from data import arrays

    return arrays.load_test(find_dataset(name, reading), data_dir)


def count_test(name: str, data_dir: Path, *, reading: Reading = _READING) -> int:
    """The number of test examples. Reads them all, but returns nothing else about them."""
    return len(load_test(name, data_dir, reading=reading))


def choose_dataset(data_dir: Path) -> tuple[str, str | None]:
    """The data set to use if none is named, and the reason if it is only the fallback.

    ("fashion_mnist", None) if its training files are in `data_dir` or could be fetched into it;
    otherwise ("digits", why).
    """
    from data.published import read_idx

    try:
        read_idx("FashionMNIST", True, data_dir)
    except DataError as error:
        return "digits", str(error)
    return "fashion_mnist", None


def default_data_dir() -> Path:
    """$SEARCH_DATA_DIR; else data/raw in a checkout, or the user's own data folder elsewhere."""
    if given := os.environ.get("SEARCH_DATA_DIR"):
        return Path(given).expanduser()
    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.is_file() and 'name = "cnn-search"' in project.read_text(encoding="utf-8"):
        return Path(__file__).parent / "raw"
    return user_data_path("cnn-search", appauthor=False)
