"""Draws the pictures that finished trials announce, as files that optuna-dashboard finds.

Which pictures there are stands in the database (see `search.store.pictures`), which of them are
drawn is seen from the folder: so a crash, a full disk or a deleted folder costs a picture nothing
but time. A file appears whole or not at all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from search.analysis.wording import data_in_words
from search.figures.trial import trial_pictures
from search.store.pictures import Picture, announced, confusion_of
from search.store.views import StudyView, TrialView
from search.training.files import delete_abandoned, write_atomically

_log = logging.getLogger(__name__)


class Missing(NamedTuple):
    trial: TrialView
    picture: Picture
    artifact_id: str


class TrialArtifacts:
    """Completes a folder, for a bounded time at once; what goes wrong with it is only told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._undrawable: set[str] = set()
        self._is_failing = False

    def write(self, view: StudyView, seconds: float, stop: threading.Event | None = None) -> int:
        """Draw the study's missing pictures for so long or until `stop` is set; returns how many.

        One is drawn in any case.

        A full or unwritable disk is told once; the next call tries again.
        """
        ends, drawn = time.monotonic() + seconds, 0
        try:
            for missing in self._missing(view):
                content = self._drawn(view, missing)
                if content is not None:
                    write_atomically(self._folder / missing.artifact_id, content)
                    drawn += 1
                if time.monotonic() >= ends or (stop is not None and stop.is_set()):
                    break
        except OSError as error:
            self._tell(error)
        else:
            self._is_failing = self._is_failing and not drawn
        return drawn

    def sweep(self) -> None:
        """Delete what killed processes have left half-written."""
        delete_abandoned(self._folder)

    def _missing(self, view: StudyView) -> Iterator[Missing]:
        there = {path.name for path in self._folder.iterdir()} if self._folder.is_dir() else set()
        for trial in view.trials:
            for picture, artifact_id in announced(trial.system_attributes).items():
                if artifact_id not in there and artifact_id not in self._undrawable:
                    yield Missing(trial, picture, artifact_id)

    def _drawn(self, view: StudyView, missing: Missing) -> bytes | None:
        """None where this one cannot be drawn; the others must not wait for it."""
        try:
            return draw(view, missing.trial, missing.picture)
        except Exception as error:  # of any kind: it is only a picture
            _log.warning("cannot draw the %s of trial %d: %s", missing.picture,
                         missing.trial.number, error)  # fmt: skip
            self._undrawable.add(missing.artifact_id)
            return None

    def _tell(self, error: OSError) -> None:
        if not self._is_failing:
            _log.warning(
                "cannot write pictures of trials into %s (%s); the study goes on, and draws them "
                "once there is room",
                self._folder,
                error.strerror,
            )
        self._is_failing = True


def draw(view: StudyView, trial: TrialView, picture: Picture) -> bytes:
    """A PNG file's content.

    Raises:
        ValueError: what it is to show is damaged.
    """
    confusion_KK = None
    if picture == "confusion":
        confusion_KK = confusion_of(trial.system_attributes, len(view.dataset.class_names))
        if confusion_KK is None:
            raise ValueError("its confusion matrix is damaged")
    names, data = view.dataset.class_names, data_in_words(view)
    return trial_pictures(trial.number, trial.reports, data, names, confusion_KK)[-1][1]
