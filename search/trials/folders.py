"""Where a study is kept unless told otherwise, all in the folder that the command runs in."""

from __future__ import annotations

import os
from pathlib import Path

from search.trials.storage import StorageError

DEFAULT_STORAGE = "sqlite:///studies.db"
RUNS = Path("runs")


def run_folder(study_name: str) -> Path:
    """The study's folder. It need not exist yet, but can be made and written.

    Raises:
        StorageError: it cannot.
    """
    folder = RUNS / study_name
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise StorageError(f"{existing.absolute()} is not a folder; move that file away")
    effective = os.access in os.supports_effective_ids
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=effective):
        raise StorageError(
            f"no permission to write into {existing.absolute()}; run this in a folder of yours"
        )
    return folder
