"""What killed processes have left in a study's folder, deleted at a command's start and end.

Nothing that may still be of use goes: no file of a process that lives, no checkpoint of a trial
that has not ended, and none that another study has written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import TrialState
from sqlalchemy import select

from search.training.checkpoint import CheckpointError, load_checkpoint
from search.training.temporary import delete_abandoned
from search.trials.frozen_trials import TRIALS
from search.trials.history import results_of
from search.trials.resuming import CHECKPOINTS
from search.trials.storage import Database, StorageError, snapshot, with_retry

_log = logging.getLogger(__name__)
_OF_TRIAL = re.compile(r"trial-([0-9]{1,9})(\.previous)?\.pt")
_OF_SEED = re.compile(r"final-([0-9]{1,9})(\.previous)?\.pt")


class _File(NamedTuple):
    path: Path
    number: int  # of the trial, or the seed
    written: float  # seconds since 1970


def sweep(db: Database, study: optuna.Study, folder: Path) -> None:
    """Delete left-overs from the study's folder; what goes wrong with it is only told."""
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
    columns = (TRIALS.c.trial_id, TRIALS.c.number, TRIALS.c.state, TRIALS.c.datetime_start)
    query = select(*columns).where(
        TRIALS.c.study_id == study._study_id,
        TRIALS.c.number.in_({file.number for file in files}),
    )

    def attempt() -> dict[int, Any]:
        with snapshot(db) as connection:
            return {row.number: row for row in connection.execute(query)}

    trials = with_retry(db, attempt) if files else {}
    for file in files:
        trial = trials.get(file.number)
        if trial is not None and trial.state in (TrialState.RUNNING, TrialState.WAITING):
            continue
        owner = _owner(file.path)
        if owner is None or (
            trial is not None
            and (owner.get("trial"), owner.get("started"))
            == (trial.trial_id, str(trial.datetime_start))
        ):
            yield file


def _owner(checkpoint: Path) -> dict[str, Any] | None:
    """See `checkpoint_identity`; None for a damaged file."""
    try:
        found = load_checkpoint(checkpoint).get("identity")
    except CheckpointError:
        return None
    return found if isinstance(found, dict) else {}


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
