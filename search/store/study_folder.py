"""A study's own folder: claimed by its identity, so that no other study ever writes there.

`runs/<study>/` bears a file that says whose it is. A second study of that name (of another
database, or made anew after the first was deleted) has `runs/<study>-2/`, and finds it again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import select

from search.store.folders import CHECKPOINTS, RUNS, study_folders, usable
from search.store.frozen_trials import TRIALS
from search.store.identity import study_identity, study_transaction
from search.store.storage import Database, StorageError, StudyGoneError, snapshot, with_retry
from search.training.files import own_temporary

OWNER = "study.json"
UNREADABLE = "?"  # in place of an identity: somebody's, so not ours
_MOST_BYTES = 10_000
_OF_TRIAL = re.compile(r"trial-([0-9]{1,9})(\.previous)?\.pt")
_log = logging.getLogger(__name__)


def study_folder(db: Database, study: optuna.Study, runs: Path) -> Path:
    """The study's folder below `runs`, made and claimed if it had none.

    A folder that an earlier version left, which bears no identity, is taken over by a study whose
    checkpoints lie there, or if there are none, by one that has begun; an empty one by anybody.

    Raises:
        StorageError: it cannot be made or written, or the database stayed away.
    """
    name, identity = study.study_name, study_identity(db, study)
    if identity is None:  # in a database that cannot be written to: only its report can be made
        return usable(next(f for f in study_folders(runs, name) if owner_of(f) is None))
    owner = {"study": name, "identity": identity, "database": db.url}
    try:
        folder = _own(runs, name, identity)
        if folder is None:
            folder = with_retry(db, lambda: _make(db, study, runs, owner))
    except OSError as error:
        raise StorageError(
            f"cannot use {error.filename or runs} ({error.strerror}); give another --runs-dir"
        ) from error
    return usable(folder)


def _make(db: Database, study: optuna.Study, runs: Path, owner: dict[str, str]) -> Path:
    with study_transaction(db, study):  # others who want it wait here, and then find it
        while (folder := _own(runs, study.study_name, owner["identity"])) is None:
            folders = study_folders(runs, study.study_name)
            free = next(folder for folder in folders if _is_free(db, study, folder))
            if _claim(usable(free), owner):
                _tell(free, next(study_folders(runs, study.study_name)))
                _bring_checkpoints(db, study, free)
        return folder


def check_folder(db: Database, study: optuna.Study, folder: Path) -> None:
    """Whether it is still the study's.

    Raises:
        StudyGoneError: it was removed, renamed, or has become another study's.
    """
    if owner_of(folder) != study_identity(db, study):
        raise StudyGoneError(
            f"{folder} was removed or renamed while the study ran; what was reported is in the "
            "database: run the same command again to go on, with the trials under way from their "
            "first epoch"
        )


def owner_of(folder: Path) -> str | None:
    """The identity of the study whose folder it is; None where it bears none."""
    path = folder / OWNER
    if not path.is_file():
        return UNREADABLE if os.path.lexists(path) else None
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))["identity"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return UNREADABLE
    return found if isinstance(found, str) else UNREADABLE


def _own(runs: Path, name: str, identity: str) -> Path | None:
    """The folder that bears the identity, whatever it is called by now."""
    usual = next(study_folders(runs, name))
    if owner_of(usual) == identity:
        return usual
    others = sorted(path.parent for path in runs.glob(f"*/{OWNER}"))
    return next((folder for folder in others if owner_of(folder) == identity), None)


def _claim(folder: Path, owner: dict[str, str]) -> bool:
    """Say whose the folder is; False if another study, or process, was faster."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(owner, indent=2).encode() + b"\n"
    with own_temporary(folder / OWNER) as (temporary, file):
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(temporary, folder / OWNER)  # unlike a renaming, it replaces nothing
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return _create(folder / OWNER, content)
    return True


def _create(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _tell(folder: Path, usual: Path) -> None:
    if folder != usual:
        _log.warning(
            "%s holds the files of another study of that name; this one's go to %s", usual, folder
        )


def _is_free(db: Database, study: optuna.Study, folder: Path) -> bool:
    """Whether nothing in the folder is another study's, as far as can be told."""
    if owner_of(folder) is not None:
        return False
    checkpoints = list(_checkpoints(folder))
    if checkpoints:
        return len(_own_ones(db, study, checkpoints)) == len(checkpoints)
    # Another study that claims it has a temporary file there; so much is no sign of results.
    is_empty = not folder.is_dir() or all(p.suffix == ".tmp" for p in folder.iterdir())
    return is_empty or _has_begun(db, study)


def _bring_checkpoints(db: Database, study: optuna.Study, folder: Path) -> None:
    """Into a folder just claimed, from where an earlier version kept them.

    That was the present folder's `runs/<study>`, wherever the database lay, whoever else used it.
    """
    usual = next(study_folders(folder.parent, study.study_name))
    for earlier in (usual, next(study_folders(RUNS, study.study_name))):
        if owner_of(earlier) is not None or earlier.absolute() == folder.absolute():
            continue
        for path in _own_ones(db, study, list(_checkpoints(earlier))):
            (folder / CHECKPOINTS).mkdir(exist_ok=True)
            with suppress(FileNotFoundError):
                shutil.move(path, folder / CHECKPOINTS / path.name)


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Of trials; damaged ones are nobody's."""
    for path in (folder / CHECKPOINTS).glob("trial-*.pt"):
        if _OF_TRIAL.fullmatch(path.name) and path.is_file() and _trial_of(path) is not None:
            yield path


def _own_ones(db: Database, study: optuna.Study, checkpoints: list[Path]) -> list[Path]:
    """Those of the study's own trials."""
    columns = (TRIALS.c.trial_id, TRIALS.c.datetime_start)
    query = select(*columns).where(TRIALS.c.study_id == study._study_id)

    def attempt() -> set[tuple[Any, Any]]:
        with snapshot(db) as connection:
            rows = connection.execute(query)
            return {(row.trial_id, str(row.datetime_start)) for row in rows}

    trials = with_retry(db, attempt) if checkpoints else set()
    return [path for path in checkpoints if _trial_of(path) in trials]


def _trial_of(checkpoint: Path) -> tuple[Any, Any] | None:
    """See `search.running.resuming.checkpoint_identity`; None for a damaged file."""
    # Few folders have moved, and to read these files takes torch, a second to import.
    from search.training.epoch import CheckpointError
    from search.training.files import load_checkpoint

    try:
        identity = load_checkpoint(checkpoint).get("identity")
    except CheckpointError:
        return None
    known = identity if isinstance(identity, dict) else {}
    whose = known.get("trial"), known.get("started")
    return whose if all(isinstance(part, int | str) for part in whose) else (None, None)


def _has_begun(db: Database, study: optuna.Study) -> bool:
    begun = select(TRIALS.c.trial_id).where(
        TRIALS.c.study_id == study._study_id, TRIALS.c.datetime_start.is_not(None)
    )

    def attempt() -> bool:
        with snapshot(db) as connection:
            return connection.execute(begun.limit(1)).first() is not None

    return with_retry(db, attempt)
