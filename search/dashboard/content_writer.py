"""Keeps what optuna-dashboard shows of a study up to date, at a bounded cost."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from search.dashboard.dashboard_content import (
    make_study_content,
    note_version,
    write_study_content,
)
from search.dashboard.trial_artifacts import TrialArtifacts
from search.store import StudyGoneError
from search.store.database import Database
from search.store.reading import view_study
from search.store.studies import StudyHandle

INTERVAL_SECONDS = 30.0
SHARE = 0.01  # of the time, at most, that goes into content
PICTURE_SECONDS = 1.0  # for trials' pictures, at each write
LAST_PICTURE_SECONDS = 5.0  # at a command's end; what is left is drawn when it is looked at

_log = logging.getLogger(__name__)


class ContentWriter:
    """Writes the content from the study as it stands; never raises, since the study matters more.

    Writing costs more the longer the study is: after a write that took t seconds the next one
    waits for 100 t, or half a minute if that is longer.

    Args:
        artifacts: the folder of trials' pictures.
    """

    def __init__(self, db: Database, study: StudyHandle, artifacts: Path) -> None:
        self._db, self._study = db, study
        self._artifacts = TrialArtifacts(artifacts)
        self._due = time.monotonic()

    def write_if_due(self) -> None:
        if time.monotonic() >= self._due:
            self._write(PICTURE_SECONDS)

    def write(self, stop: threading.Event) -> None:
        """For the end of a command; once `stop` is set, what is left is drawn by the next one."""
        self._write(LAST_PICTURE_SECONDS, stop)

    def _write(self, picture_seconds: float, stop: threading.Event | None = None) -> None:
        started = time.monotonic()
        try:
            with self._study.told_if_gone():
                seen = note_version(self._study)
                view = view_study(self._study)
                content = make_study_content(view)
                # One transaction: two workers that write at once would leave torn figures.
                with self._study.transaction():
                    write_study_content(self._study, content, note_seen=seen)
                self._artifacts.write(view, picture_seconds, stop)
                if stop is not None:
                    self._artifacts.sweep()
        except StudyGoneError:
            pass  # the command meets it, too, and ends
        except Exception as error:  # of any kind: trials must go on
            _log.warning("cannot write the study's note and figures: %s", error)
        ended = time.monotonic()
        self._due = ended + max(INTERVAL_SECONDS, (ended - started) / SHARE)
