"""What we add to a study in optuna-dashboard: our part of its note, figures, pictures of trials.

Plotting libraries, which take a second to import, are loaded only where something is drawn.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy import Connection

from search.figures import dashboard_figures
from search.store import StorageError, StudyGoneError
from search.store.database import explain, is_transient, with_retry, write
from search.store.leases import Lease, LostLeaseError, fence
from search.store.studies import StudyHandle
from search.store.views import StudyView, view_study

SHARE = 0.01  # of the time, at most, that is spent on content, and likewise on pictures
INTERVAL_SECONDS = 30.0
CREDIT_SECONDS = 2.0  # how far a worker's time for pictures may run ahead of its share
NOTE_VERSION = "dashboard:note_ver"  # study attribute, incremented whenever its note is saved
LEAST_ROOM = 2**20  # bytes: on a full disk, part of a picture would stay behind
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_log = logging.getLogger(__name__)


class ContentWriter:
    """Writes the study's current content; never raises, because the study matters more.

    After a write that took t seconds the next one waits 100 t, or half a minute if that is longer.
    """

    def __init__(self, study: StudyHandle) -> None:
        self._study, self._due = study, 0.0

    def write_if_due(self) -> None:
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        started = time.monotonic()
        try:
            with self._study.told_if_gone():
                write_content(self._study, view_study(self._study))
        except StudyGoneError:
            pass  # the command notices it, too, and ends
        except Exception as error:  # of any kind: trials must not stop
            why = explain(error) if is_transient(error) else error
            _log.warning("cannot write the study's note and figures: %s", why)
        ended = time.monotonic()
        self._due = ended + max(INTERVAL_SECONDS, (ended - started) / SHARE)


def write_content(study: StudyHandle, view: StudyView) -> None:
    """Replace our part of the study's note, and its figures.

    In one transaction, because two concurrent writers would leave a mixture. The note keeps its
    version: the dashboard rejects a user's edit that began at an earlier version, so that nobody
    could save one while the study runs. After a StudyGoneError or StorageError nothing is written.
    """
    from optuna_dashboard import get_note, save_note, save_plotly_graph_object

    from search.pages.note import placed, study_note

    before, figures = get_note(study.study), dashboard_figures(view)
    wanted, storage = placed(study_note(view), before), study.db.optuna
    with study.transaction():
        # If it has changed since, a user is saving a note right now, row by row.
        if get_note(study.study) == before != wanted:
            version = storage.get_study_system_attrs(study.study_id).get(NOTE_VERSION, 1)
            save_note(study.study, wanted)
            storage.set_study_system_attr(study.study_id, NOTE_VERSION, version)
        for name, figure in figures.items():
            save_plotly_graph_object(study.study, figure, graph_object_id=name)


class TrialPictures:
    """Draws pictures of trials and uploads them as Optuna artifacts, for a bounded share of the
    time. Optuna lets nobody write to a trial that has ended, so only complete trials have any."""

    def __init__(self, study: StudyHandle, folder: Path) -> None:
        self._study, self._folder = study, folder
        self._began, self._spent = time.monotonic(), 0.0
        self._is_failing = False

    def upload(self, lease: Lease, confusion_KK: Callable[[], NDArray[np.int64]]) -> None:
        """Learning curves and confusion matrix of a trial that is about to be marked as complete.

        Once the share of time is used up, only if the trial is the best so far. `confusion_KK`
        counts the validation images after the last epoch. An error there (no memory) or in drawing
        is only logged. Raises StorageError (no database, or the study is gone) or LostLeaseError.
        """
        started = time.monotonic()
        allowed = CREDIT_SECONDS + SHARE * (started - self._began)
        try:
            with self._study.told_if_gone():
                if self._spent <= allowed or self._is_best(lease):
                    self._upload(lease, confusion_KK())
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
        from search.figures.final import trial_pictures

        view = view_study(self._study, only=lease.trial_number)  # of thousands, perhaps
        (ours,) = view.trials
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

            write(self._study.db, keep)

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
    Pictures may also lie on another machine: the browser is told that they are not found. Links and
    pipes are no pictures.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def open_reader(self, artifact_id: str) -> BinaryIO:
        from bottle import HTTPError

        path = self._folder / artifact_id
        with contextlib.suppress(ArtifactNotFound, OSError):
            if _ID.fullmatch(artifact_id) and stat.S_ISREG(path.lstat().st_mode):
                return super().open_reader(artifact_id)
        raise HTTPError(404, "this picture is not in the folder of artifacts here")

    def remove(self, artifact_id: str) -> None:
        if _ID.fullmatch(artifact_id):
            with contextlib.suppress(ArtifactNotFound):
                super().remove(artifact_id)
