"""Where a study is kept unless told otherwise, all in the folder that the command runs in."""

from __future__ import annotations

import os
from pathlib import Path

from search.trials.storage import StorageError

DEFAULT_STORAGE = "sqlite:///studies.db"
RUNS = Path("runs")
ARTIFACTS = RUNS / "artifacts"  # pictures that the dashboard shows, by the database's own names


def run_folder(study_name: str) -> Path:
    """The study's folder. It need not exist yet, but can be made and written.

    Raises:
        StorageError: it cannot.
    """
    return _usable(RUNS / study_name)


def artifact_folder() -> Path:
    """`ARTIFACTS`, under the same terms."""
    return _usable(ARTIFACTS)


def _usable(folder: Path) -> Path:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise StorageError(f"{existing.absolute()} is not a folder; move that file away")
    effective = os.access in os.supports_effective_ids
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=effective):
        raise StorageError(
            f"no permission to write into {existing.absolute()}; run this in a folder of yours"
        )
    return folder
