"""What we add to a study in optuna-dashboard: our part of its note, and figures."""

from __future__ import annotations

import logging
import time

from search.figures import dashboard_figures
from search.pages.note import placed, study_note
from search.store import StudyGoneError
from search.store.studies import StudyHandle
from search.store.views import StudyView, view_study

INTERVAL_SECONDS = 30.0
SHARE = 0.01  # of the time, at most, that is spent on content
NOTE_VERSION = "dashboard:note_ver"  # study attribute, incremented whenever its note is saved

_log = logging.getLogger(__name__)


class ContentWriter:
    """Writes the study's current content; never raises, because the study matters more.

    After a write that took t seconds the next one waits 100 t, or half a minute if that is longer.
    """

    def __init__(self, study: StudyHandle) -> None:
        self._study = study
        self._due = time.monotonic()

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
            _log.warning("cannot write the study's note and figures: %s", error)
        ended = time.monotonic()
        self._due = ended + max(INTERVAL_SECONDS, (ended - started) / SHARE)


def write_content(study: StudyHandle, view: StudyView) -> None:
    """Replace our part of the study's note, and its figures.

    In one transaction, because two concurrent writers would leave a mixture. The note keeps its
    version: the dashboard rejects a user's edit that began at an earlier version, so that nobody
    could save one while the study runs.

    Raises:
        StudyGoneError, StorageError: nothing was written.
    """
    # Takes a second to import; commands that write nothing need not wait for it.
    from optuna_dashboard import get_note, save_note, save_plotly_graph_object

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
