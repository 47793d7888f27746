"""Pictures of trials, uploaded as Optuna artifacts before a trial is marked as complete.

Afterwards Optuna lets nobody write to a trial: pruned and failed trials have none.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Connection

from search.store import StorageError
from search.store.database import with_retry, write
from search.store.leases import Lease, LostLeaseError, fence
from search.store.studies import StudyHandle
from search.store.views import view_study

SHARE, CREDIT_SECONDS = 0.01, 2.0  # of a worker's time, and how far it may run ahead of that
LEAST_ROOM = 2**20  # bytes: Optuna announces an artifact before it writes the file
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_log = logging.getLogger(__name__)


class TrialPictures:
    """Draws and uploads, for a bounded share of the time; a drawing error never fails a trial."""

    def __init__(self, study: StudyHandle, folder: Path) -> None:
        self._study, self._folder = study, folder
        self._began, self._spent = time.monotonic(), 0.0
        self._is_failing = False

    def upload(self, lease: Lease, confusion_KK: NDArray[np.int64]) -> None:
        """Learning curves and confusion matrix of a trial that is about to be marked as complete.

        Once the share of time is used up, only if the trial is the best so far. `confusion_KK` is
        on the validation images, after the last epoch.

        Raises:
            StorageError: the database was unavailable, or the study is gone.
            LostLeaseError: another worker holds the trial.
        """
        started = time.monotonic()
        try:
            with self._study.told_if_gone():
                self._upload(lease, confusion_KK)
            self._is_failing = False
        except OSError as error:
            # If all of runs/ is gone, the study's worker reports it.
            if not self._is_failing and self._folder.parent.is_dir():
                told = "cannot write pictures of trials into %s (%s); continuing without them"
                _log.warning(told, self._folder, error.strerror)
            self._is_failing = True
        except (StorageError, LostLeaseError):
            raise  # a problem of the study itself, which the worker handles
        except Exception as error:  # of any kind: it is only a picture
            _log.warning("cannot draw the pictures of trial %d: %s", lease.trial_number, error)
        self._spent += time.monotonic() - started

    def _upload(self, lease: Lease, confusion_KK: NDArray[np.int64]) -> None:
        allowed = CREDIT_SECONDS + SHARE * (time.monotonic() - self._began)
        if self._spent > allowed and not self._is_best(lease):
            return
        from search.figures.final import trial_pictures  # plotting libraries: a second to import

        view = view_study(self._study)
        ours = next(it for it in view.trials if it.number == lease.trial_number)
        self._folder.mkdir(exist_ok=True)
        if shutil.disk_usage(self._folder).free < LEAST_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        pictures = trial_pictures(view, ours, confusion_KK)
        store = FileSystemArtifactStore(self._folder)
        with tempfile.TemporaryDirectory() as place:
            for name, content in pictures.items():
                (Path(place) / name).write_bytes(content)

            def keep(connection: Connection) -> None:
                fence(connection, lease)
                trial = optuna.trial.Trial(self._study.study, lease.trial_id)
                there = {meta.filename for meta in get_all_artifact_meta(trial)}  # of a dead worker
                for name in pictures.keys() - there:
                    path = str(Path(place) / name)
                    upload_artifact(artifact_store=store, file_path=path, study_or_trial=trial)

            write(self._study.db, keep, durable=False)

    def _is_best(self, lease: Lease) -> bool:
        """Whether it is the best so far; without a view, which would read all trials."""
        db = self._study.db

        def ask() -> bool:
            reported = db.optuna.get_trial(lease.trial_id).intermediate_values.values()
            try:
                return min(filter(math.isfinite, reported)) < self._study.study.best_value
            except ValueError:  # no trial is complete yet, or this one has no finite report
                return True

        return with_retry(db, ask)


class ArtifactStore(FileSystemArtifactStore):
    """The folder of artifacts as optuna-dashboard sees it.

    Anyone who can write to the database can announce any artifact id, even `../../.bashrc`. And
    earlier versions announced pictures that were never drawn; such a study can still be deleted.
    """

    def remove(self, artifact_id: str) -> None:
        if _ID.fullmatch(artifact_id):
            with contextlib.suppress(ArtifactNotFound):
                super().remove(artifact_id)
