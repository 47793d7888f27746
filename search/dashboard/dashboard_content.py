"""What optuna-dashboard shows beside its own: notes, figures, and a column for each measurement.

Its own storage calls are used, which make a row of each 2 kB: a reader may see parts of two
versions for a moment, and the dashboard then keeps the figure that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import plotly.graph_objects as go

from search.figures import dashboard_figures
from search.pages.note import placed, study_note, trial_note
from search.store.studies import StudyHandle
from search.store.views import StudyView

# Each note of a trial is a row that the dashboard compares with every trial at every reading.
MOST_TRIAL_NOTES = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyContent:
    """What there is to show.

    Attributes:
        note: our part of the study's, in Markdown.
        figures: by their ids; one saved again under its id replaces the last one.
        trial_notes: of the last trials that there is something to say of, by trial id.
    """

    note: str
    figures: Mapping[str, go.Figure]
    trial_notes: Mapping[int, str] = field(default_factory=dict)


def make_study_content(view: StudyView) -> StudyContent:
    """The work of it, without touching a database."""
    noted = [(t.number, n) for t in view.trials if (n := trial_note(t)) is not None]
    return StudyContent(
        note=study_note(view),
        figures=dashboard_figures(view),
        trial_notes=dict(noted[-MOST_TRIAL_NOTES:]),
    )


def note_version(study: StudyHandle) -> int:
    """Raised whenever a person saves the study's note; 0 where there is none."""
    from optuna_dashboard._note import note_ver_key

    attributes = study.db.optuna.get_study_system_attrs(study.study_id)
    return int(attributes.get(note_ver_key(None), 0))


def write_study_content(
    study: StudyHandle, content: StudyContent, *, note_seen: int | None = None
) -> None:
    """Replace our part of the study's note, and its figures; add notes to trials that have none.

    The note keeps its version: the dashboard refuses to save what was begun at an older one, so a
    person who writes while the study runs would never get it stored.

    Two processes at once would leave a mixture, unless each calls this within a
    `search.store.database.transaction`. Raises what the storage raises.

    Args:
        note_seen: `note_version` of some time ago. If it is another by now, a person is saving the
            note at this moment, row by row, and it is left for the next time.
    """
    # A second to import, which commands that write nothing are spared.
    from optuna_dashboard import get_note, save_plotly_graph_object
    from optuna_dashboard._note import note_ver_key, save_note_with_version

    storage, study_id = study.db.optuna, study.study_id
    version = note_version(study)
    if note_seen in (None, version):
        note = placed(content.note, get_note(study.study))
        save_note_with_version(storage, study_id, None, max(version, 1), note)
    for name, figure in content.figures.items():
        save_plotly_graph_object(study.study, figure, graph_object_id=name)
    there = storage.get_study_system_attrs(study_id)
    for number, note in content.trial_notes.items():
        with suppress(KeyError):  # deleted meanwhile
            trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
            if note_ver_key(trial_id) not in there:  # nor one that a person wrote
                save_note_with_version(storage, study_id, trial_id, 1, note)
