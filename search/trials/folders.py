"""Where a study keeps its files: `runs/<study>/`, in the folder that the command runs in."""

from __future__ import annotations

import os
from pathlib import Path

from search.trials.storage import StorageError

RUNS = Path("runs")


def run_folder(study_name: str) -> Path:
    """The study's folder, made if it is missing.

    Raises:
        StorageError: it cannot be written.
    """
    folder = RUNS / study_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"cannot make the folder {folder.absolute()} ({error.strerror}); "
            "run this in a folder that you may write to"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"cannot write into {folder.absolute()}; check its permissions")
    return folder
