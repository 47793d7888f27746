"""Where the files of a database's studies are kept: `runs/`, with a folder for each study.

`runs/<study>/` has a file with the study's identity, so that no other study ever writes there. A
second study of that name (of another database, or created after the first was deleted) gets
`runs/<study>-2/`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock
from optuna.trial import TrialState
from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError

from data.reading import STUDY_MARK as OWNER
from data.reading import parse_json, read_regular, write_atomically
from models.checks import first_line
from search.store import (
    RUNS_VARIABLE,
    FolderGoneError,
    StorageError,
    is_sqlite,
    mask_password,
    read_url,
)
from search.store.database import read
from search.store.records import results_of
from search.store.schema import leases, trials
from search.store.studies import StudyHandle
from search.training.files import Remote, delete_abandoned

RUNS = Path("runs")
ARTIFACTS = "artifacts"  # there: the dashboard's pictures, named randomly: databases share it
CHECKPOINTS = "checkpoints"  # in a study's folder
FINAL = "final"  # there, too: points to the network that was finished first
LONGEST_NAME = 100
CHECK_SECONDS = 3.0
FORGOTTEN = 30 * 86_400  # seconds: a final training left for so long is not resumed
_log = logging.getLogger(__name__)
_CHECKPOINT = re.compile(
    r"(trial|(?:final|candidate-[0-9]{1,9})(?:-[0-9a-f]{8})?)-([0-9]{1,9})(?:\.previous)?\.pt"
)  # number, or seed
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def runs_folder(storage: str, given: str | Path | None = None) -> Path:
    """Where the files of a database's studies are kept, see `from_here`. It need not exist yet.

    The user sets it as `given` or $SEARCH_RUNS_DIR. By default it is next to an SQLite file, or in
    the current folder for a server.
    """
    if chosen := given or os.environ.get(RUNS_VARIABLE):
        return Path(chosen)
    url = read_url(storage)
    if url is None or not is_sqlite(url) or not url.database:
        return RUNS
    # A link to a database counts as that database.
    return from_here(Path(os.path.realpath(url.database)).with_name(RUNS.name))


def from_here(path: Path) -> Path:
    """The path, relative if it is in the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def study_folders(runs: Path, study_name: str) -> Iterator[Path]:
    """The folders that a study of that name may have, the usual one first."""
    name = folder_name(study_name)
    yield runs / name
    yield from (runs / f"{name}-{number}" for number in count(2))


def folder_name(study_name: str) -> str:
    """The study's name, reduced to a valid name for one folder on any system.

    Other tools name studies as they like: `..`, `a/b`, `con`, a thousand letters.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", study_name[: 10 * LONGEST_NAME])
    name = plain.lstrip("-.")[:LONGEST_NAME].rstrip(".")
    taken = name.lower() == ARTIFACTS or _DEVICES.fullmatch(name)
    return f"study-{name}" if taken or not name else name


def usable(folder: Path, *, write: bool = True, option: str = "--runs-dir") -> Path:
    """The folder, which need not exist yet; `StorageError` if it cannot be created or, unless only
    to be read, written. The option is the one that names another."""
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:
        raise StorageError(f"cannot use {folder} ({error.strerror}); give {option}") from error
    if not existing.is_dir():
        raise StorageError(f"{existing.absolute()} is not a folder; move that file away")
    if write and not os.access(existing, os.W_OK | os.X_OK):
        raise StorageError(
            f"no permission to write into {existing.absolute()}; give another {option}"
        )
    return folder


def study_folder(study: StudyHandle, runs: Path) -> Path:
    """The study's folder below `runs`, created and claimed if it had none.

    A folder that an earlier version left, without an identity, is taken over by a study that has
    started; an empty one by any study. Raises `StorageError` if it cannot be used.
    """
    folders = study_folders(runs, study.name)
    if study.identity is None:  # in a read-only database: only its report can be made
        return usable(next(folder for folder in folders if owner_of(folder) is None))
    usual = runs / folder_name(study.name)
    try:
        usable(runs).mkdir(parents=True, exist_ok=True)
        with FileLock(runs / ".lock"):  # two studies of one name, or two processes of one study
            folder = claimed_folder(study, runs)
            if folder is None:
                folder = next(it for it in folders if _is_free(study, it))
                owner = {"study": study.name, "identity": study.identity, "database": study.db.url}
                write_atomically(folder / OWNER, json.dumps(owner, indent=2).encode() + b"\n")
                if folder != usual:
                    _log.warning(
                        "%s holds the files of another study; this one's go to %s", usual, folder
                    )
        return usable(folder)
    except OSError as error:
        raise StorageError(
            f"cannot use {error.filename or runs} ({error.strerror}); give another --runs-dir"
        ) from error


def claimed_folder(study: StudyHandle, runs: Path) -> Path | None:
    """The folder with the study's identity in it, whatever it is called by now."""
    usual = runs / folder_name(study.name)
    claimed = (usual, *sorted(path.parent for path in runs.glob(f"*/{OWNER}")))
    return next((it for it in claimed if owner_of(it) == study.identity), None)


def find_checkpoints(url: str) -> Path | Remote:
    """Where to keep checkpoints, given a URL or a folder's path; raises `StorageError`."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, path = fsspec.core.url_to_fs(url)
        if isinstance(system, LocalFileSystem):
            return usable(Path(path), option="--checkpoints")
        probe = Remote(url) / f"probe-{secrets.token_hex(8)}"
        probe.write_bytes(b"")  # the bucket may be missing, or read-only for us
        probe.unlink(missing_ok=True)
        with suppress(FileNotFoundError):  # else what is missing could not be told from an outage
            probe.read_bytes()
    except StorageError:
        raise
    except Exception as error:  # whatever its libraries raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise StorageError(
            f"cannot keep checkpoints in {url} ({reason}); give --checkpoints a folder, or a URL "
            "that fsspec can use, with its package (s3://: pip install 'cnn-search[s3]')"
        ) from error
    return Remote(url)


def check_folder(study: StudyHandle, folder: Path) -> None:
    """Raises `FolderGoneError` if it was removed, renamed, or now belongs to another study."""
    if owner_of(folder) != study.identity:
        raise FolderGoneError(
            f"{folder} was removed or renamed while the study ran; what was reported is in the "
            "database: run the same command again to resume; trainings under way restart from "
            "their first epoch"
        )


def presence_check(study: StudyHandle, folder: Path) -> Callable[[], None]:
    """A function to call often: raises StudyGoneError once the study or its folder is gone.

    It asks at most every few seconds, more rarely if the answer takes long, as in an outage of the
    database, which is no error.
    """
    due = 0.0

    def check() -> None:
        nonlocal due
        if (started := time.monotonic()) < due:
            return
        check_folder(study, folder)
        with suppress(SQLAlchemyError):
            study.check()
        ended = time.monotonic()
        due = ended + max(CHECK_SECONDS, 20 * (ended - started))

    return check


def owner_of(folder: Path) -> str | None:
    """The identity of the study whose folder it is, `?` if that is unreadable; None if none's."""
    mark = _mark_of(folder)
    return None if mark is None else str(mark.get("identity", "?"))


def folders_named(runs: Path, study_name: str, storage: str) -> list[Path]:
    """The folders of studies of that name: only those of the database `storage` if there are any.

    An SQLite file that `study.json` names by a relative path is looked for beside `runs`. A folder
    of an earlier version, which has no `study.json`, is known by its own name.
    """
    usual = next(study_folders(runs, study_name))
    databases = {usual: ""} if _mark_of(usual) is None else {}
    for path in sorted(runs.glob(f"*/{OWNER}")):
        mark = _mark_of(path.parent) or {}
        if mark.get("study") == study_name:
            databases[path.parent] = _place(str(mark.get("database")), runs.absolute().parent)
    own = [folder for folder, one in databases.items() if one == _place(storage, Path.cwd())]
    return own or list(databases)


def _mark_of(folder: Path) -> dict[str, Any] | None:
    """The content of its `study.json`; empty if that is unreadable, None if there is none."""
    path = folder / OWNER
    try:
        found = parse_json(read_regular(path, most_bytes=10_000))
    except FileNotFoundError:
        return {} if os.path.lexists(path) else None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _place(url: str, folder: Path) -> str:
    """A database's SQLite file, whose path may be relative to `folder`; else the masked URL."""
    parts = read_url(url)
    if parts is None or not is_sqlite(parts) or not parts.database:
        return mask_password(url)
    try:
        return os.path.realpath(folder / parts.database)
    except ValueError:  # a NUL in the name
        return url


def _is_free(study: StudyHandle, folder: Path) -> bool:
    """Whether nothing in the folder belongs to another study, as far as can be told."""
    if owner_of(folder) is not None:
        return False
    if not folder.is_dir() or not any(folder.iterdir()):
        return True
    # Left by an earlier version, which wrote no identities.
    found = read(study.db, lambda _: study.study.get_trials(deepcopy=False))
    return any(trial.datetime_start is not None for trial in found)


def sweep(study: StudyHandle, folder: Path, checkpoints: Path | Remote | None = None) -> None:
    """Delete what killed processes left in the study's folder, and in its own one for checkpoints
    elsewhere, unless that is in an object store; a failure is only logged.

    Everything that may still be needed stays: files of a living process, checkpoints of a trial
    that has not ended or may be resumed, and those of a final training less than a month older
    than the last test evaluation, because another finalize may resume it.
    """
    unended = trials.c.state.in_((TrialState.RUNNING, TrialState.WAITING))
    of_use = select(trials.c.number).outerjoin(leases)
    of_use = of_use.where(
        trials.c.study_id == study.study_id, or_(unended, leases.c.paused.is_not(None))
    )
    places = {folder / CHECKPOINTS, *([checkpoints] if isinstance(checkpoints, Path) else [])}
    try:
        for place in (folder, *places):
            delete_abandoned(place)
        # Files first, then states: whatever wrote a file was in the database before it.
        written = [
            (path, it[1], int(it[2]), path.stat().st_mtime)
            for place in places
            for path in place.glob("*.pt")
            if (it := _CHECKPOINT.fullmatch(path.name))
        ]
        kept = set(read(study.db, lambda connection: connection.scalars(of_use).all()))
        results = [row for row in results_of(study) if row.figures is not None]
        tested = max((row.opened_at.timestamp() for row in results), default=0.0)
        tested = min(tested, time.time())  # the clock may have been ahead
        for path, kind, number, at in written:
            is_done = number not in kept if kind == "trial" else at < tested - FORGOTTEN
            if is_done and path.stat().st_mtime == at:  # not rewritten meanwhile
                path.unlink()
    except FileNotFoundError:
        pass  # another process is sweeping
    except (OSError, StorageError) as error:
        _log.warning("cannot delete what killed processes left in %s: %s", folder, error)
