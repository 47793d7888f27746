"""What optuna-dashboard shows beside its own: a note, figures, and a column for each measurement.

Its own storage calls are used, which make a row of each 2 kB: a reader may see parts of two
versions for a moment, and the dashboard then keeps the figure that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
import plotly.graph_objects as go
from optuna_dashboard import save_note, save_plotly_graph_object

from search.reporting.figures_curves import learning_curves
from search.reporting.figures_study import best_so_far, loss_against_parameters, time_by_outcome
from search.reporting.note import study_note
from search.trials.view import (
    StudyView,
)

# By id: a figure saved again under its id replaces the last one.
FIGURES = {
    "learning-curves": learning_curves,
    "loss-against-parameters": loss_against_parameters,
    "best-so-far": best_so_far,
    "time-by-outcome": time_by_outcome,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyContent:
    """A note in Markdown, and figures by their ids."""

    note: str
    figures: Mapping[str, go.Figure]


def make_study_content(view: StudyView) -> StudyContent:
    """The work of it, without touching a database."""
    figures = {name: make(view) for name, make in FIGURES.items()}
    return StudyContent(note=study_note(view), figures=figures)


def write_study_content(study: optuna.Study, content: StudyContent) -> None:
    """Replace the study's note and figures; nothing else of the study is touched.

    Two processes at once would leave a mixture, unless each calls this within a
    `search.trials.storage.transaction`. Raises what the storage raises.
    """
    save_note(study, content.note)
    for name, figure in content.figures.items():
        save_plotly_graph_object(study, figure, graph_object_id=name)
