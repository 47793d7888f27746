"""The folder of artifacts as optuna-dashboard sees it: with the pictures that are not drawn yet."""

from __future__ import annotations

import contextlib
import logging
import threading
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from search.dashboard.trial_artifacts import draw
from search.store import StorageError
from search.store.database import Database
from search.store.pictures import announced, announcer, is_artifact_id
from search.store.reading import view_study
from search.store.studies import StudyHandle
from search.training.files import write_atomically

_log = logging.getLogger(__name__)


class ArtifactStore(FileSystemArtifactStore):
    """A picture that a trial announces is drawn when it is first looked at, if not before.

    A study that was killed, or had no time or room to draw them, is shown whole all the same; on
    a disk without room, they are drawn at each look.
    """

    def __init__(self, folder: Path, db: Database) -> None:
        super().__init__(folder)
        self._folder, self._db = folder, db
        self._drawing = threading.Lock()  # matplotlib knows nothing of threads

    def open_reader(self, artifact_id: str) -> BinaryIO:
        _check(artifact_id)
        with contextlib.suppress(ArtifactNotFound, NotADirectoryError):
            return super().open_reader(artifact_id)
        with self._drawing:
            with contextlib.suppress(ArtifactNotFound, NotADirectoryError):
                return super().open_reader(artifact_id)  # another thread was faster
            content = self._draw(artifact_id)
        if content is None:
            raise ArtifactNotFound(f"there is no artifact {artifact_id}")
        return BytesIO(content)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        _check(artifact_id)
        super().write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Removing a picture that was never drawn is no error: its study can then be deleted.

        For the same reason nothing is done about an id that is none.
        """
        if not is_artifact_id(artifact_id):
            return
        try:
            super().remove(artifact_id)
        except ArtifactNotFound:
            if announcer(self._db, artifact_id) is None:
                raise

    def _draw(self, artifact_id: str) -> bytes | None:
        """None where no trial of a study of ours announces it."""
        owner = announcer(self._db, artifact_id)
        if owner is None:
            return None
        try:
            name = self._db.optuna.get_study_name_from_id(owner.study_id)
            study = optuna.load_study(study_name=name, storage=self._db.optuna)
            view = view_study(StudyHandle.of(self._db, study), also=(owner.number,))
        except StorageError:
            return None
        trial = next(trial for trial in view.trials if trial.number == owner.number)
        pictures = {id_: picture for picture, id_ in announced(trial.system_attributes).items()}
        if artifact_id not in pictures:
            return None
        try:
            content = draw(view, trial, pictures[artifact_id])
        except ValueError as error:
            _log.warning("cannot draw %s of trial %d: %s", artifact_id, trial.number, error)
            return None
        with contextlib.suppress(OSError):
            write_atomically(self._folder / artifact_id, content)
        return content


def _check(artifact_id: str) -> None:
    if not is_artifact_id(artifact_id):
        raise ArtifactNotFound(f"{artifact_id!r} is the id of no artifact")
