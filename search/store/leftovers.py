"""What killed processes have left in a study's folder, deleted at a command's start and end.

Nothing that may still be of use goes: no file of a process that lives, and no checkpoint of a trial
that has not ended.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.trial import TrialState
from sqlalchemy import select

from search.store.folders import CHECKPOINTS
from search.store.frozen_trials import TRIALS
from search.store.history import results_of
from search.store.storage import Database, StorageError, snapshot, with_retry
from search.training.files import delete_abandoned

_log = logging.getLogger(__name__)
_OF_TRIAL = re.compile(r"trial-([0-9]{1,9})(\.previous)?\.pt")
_OF_SEED = re.compile(r"final-([0-9]{1,9})(\.previous)?\.pt")


class _File(NamedTuple):
    path: Path
    number: int  # of the trial, or the seed
    written: float  # seconds since 1970


def sweep(db: Database, study: optuna.Study, folder: Path) -> None:
    """Delete left-overs from the study's folder; what goes wrong with it is only told.

    Args:
        folder: the study's own, see `search.store.study_folder`.
    """
    try:
        delete_abandoned(folder)
        for file in [*_of_ended_trials(db, study, folder), *_of_final_trainings(db, study, folder)]:
            if file.path.stat().st_mtime == file.written:  # not written anew meanwhile
                file.path.unlink()
    except FileNotFoundError:
        pass  # another process is sweeping
    except (OSError, StorageError) as error:
        _log.warning("cannot clear %s of what killed processes left: %s", folder, error)


def _of_ended_trials(db: Database, study: optuna.Study, folder: Path) -> Iterator[_File]:
    # First the files and then the states: whatever has written one was in the database before.
    files = list(_files(folder, _OF_TRIAL))
    query = select(TRIALS.c.number).where(
        TRIALS.c.study_id == study._study_id,
        TRIALS.c.number.in_({file.number for file in files}),
        TRIALS.c.state.in_([TrialState.RUNNING, TrialState.WAITING]),
    )

    def attempt() -> set[int]:
        with snapshot(db) as connection:
            return set(connection.scalars(query))

    open_ones = with_retry(db, attempt) if files else set()
    yield from (file for file in files if file.number not in open_ones)


def _of_final_trainings(db: Database, study: optuna.Study, folder: Path) -> Iterator[_File]:
    """Those that were last trained before a test evaluation that has ended."""
    files = list(_files(folder, _OF_SEED))
    results = results_of(db, study.study_name) if files else []
    tested = [row.opened_at.timestamp() for row in results if row.figures is not None]
    yield from (file for file in files if file.written < max(tested, default=0.0))


def _files(folder: Path, pattern: re.Pattern[str]) -> Iterator[_File]:
    for path in (folder / CHECKPOINTS).glob("*.pt"):
        named = pattern.fullmatch(path.name)
        with suppress(FileNotFoundError):  # its owner has just deleted it
            if named is not None and path.is_file():
                yield _File(path, int(named[1]), path.stat().st_mtime)
