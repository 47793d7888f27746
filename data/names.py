"""The names of data sets, and where they are kept by default. Loads no torch, for --help."""

import os
from pathlib import Path

from platformdirs import user_data_path

DATASET_NAMES: tuple[str, ...] = (
    "fashion_mnist",
    "mnist",
    "cifar10",
    "cifar100",
    "cifar100_coarse",
    "digits",
)


def default_data_dir() -> Path:
    """$SEARCH_DATA_DIR; else data/raw in a checkout, and the user's own data folder elsewhere.

    Versions up to 0.1 kept files inside the installed package: where some are, they are found.
    """
    given = os.environ.get("SEARCH_DATA_DIR")
    if given:
        return Path(given).expanduser()
    beside = Path(__file__).parent / "raw"
    if _in_checkout() or (beside.is_dir() and any(beside.iterdir())):
        return beside
    return user_data_path("cnn-search", appauthor=False)


def _in_checkout() -> bool:
    try:
        project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return False
    return 'name = "cnn-search"' in project
