"""Where the files of a database's studies are kept: `runs/`, with a folder for each study.

It lies beside an SQLite file, whichever folder a command runs in. Whose each study's folder is, is
seen to by `search.store.study_folder`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from search.store.storage import StorageError
from search.store.storage_url import STORAGE_VARIABLE, is_sqlite, read_url

DEFAULT_STORAGE = "sqlite:///studies.db"
RUNS_VARIABLE = "SEARCH_RUNS_DIR"
RUNS = Path("runs")
ARTIFACTS = RUNS / "artifacts"  # pictures that the dashboard shows, by the database's own names
CHECKPOINTS = "checkpoints"  # in a study's folder
LONGEST_NAME = 100
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def default_storage() -> str:
    return os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE


def runs_folder(storage: str, given: str | Path | None = None) -> Path:
    """Where the files of a database's studies are kept. It need not exist yet.

    Args:
        storage: the database's URL.
        given: by a person, in place of $SEARCH_RUNS_DIR. Without both it lies beside an SQLite
            file, and for a server in the present folder.

    Returns:
        A relative path where it lies in the present folder.
    """
    chosen = given or os.environ.get(RUNS_VARIABLE)
    if chosen:
        return Path(chosen)
    url = read_url(storage)
    if url is None or not is_sqlite(url) or not url.database:
        return RUNS
    # A link to a database is that database.
    beside = Path(os.path.realpath(url.database)).with_name(RUNS.name)
    here = Path.cwd()
    return beside.relative_to(here) if beside.is_relative_to(here) else beside


def study_folders(runs: Path, study_name: str) -> Iterator[Path]:
    """The folders that a study of that name may have, the usual one first."""
    name = folder_name(study_name)
    yield runs / name
    yield from (runs / f"{name}-{number}" for number in count(2))


def folder_name(study_name: str) -> str:
    """The study's name, or what is left of it as the name of one folder on any system.

    Other tools name studies as they like: `..`, `a/b`, `con`, a thousand letters.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", study_name[: 10 * LONGEST_NAME])
    name = plain.lstrip("-.")[:LONGEST_NAME].rstrip(".")
    taken = name.lower() == ARTIFACTS.name or _DEVICES.fullmatch(name)
    return f"study-{name}" if taken or not name else name


def artifact_folder(runs: Path) -> Path:
    """Of the pictures that the dashboard shows: random ids, so that databases may share it."""
    return runs / ARTIFACTS.name


def usable(folder: Path) -> Path:
    """The folder, which need not exist yet, but can be made and written.

    Raises:
        StorageError: it cannot.
    """
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:
        raise StorageError(f"cannot use {folder} ({error.strerror}); give --runs-dir") from error
    if not existing.is_dir():
        raise StorageError(f"{existing.absolute()} is not a folder; move that file away")
    effective = os.access in os.supports_effective_ids
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=effective):
        raise StorageError(
            f"no permission to write into {existing.absolute()}; give another --runs-dir"
        )
    return folder
