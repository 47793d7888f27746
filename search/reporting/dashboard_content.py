"""What optuna-dashboard shows beside its own: a note, figures, and a column for each measurement.

Its own storage calls are used, which make a row of each 2 kB: a reader may see parts of two
versions for a moment, and the dashboard then keeps the figure that it has.
"""

from __future__ import annotations

import math
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna_dashboard import save_note, save_plotly_graph_object

from search.reporting.figures_curves import learning_curves
from search.reporting.figures_study import best_so_far, loss_against_parameters, time_by_outcome
from search.reporting.note import study_note
from search.trials.view import (
    ACCURACY,
    BEST_EPOCH,
    EPOCHS,
    ERROR,
    PARAMETERS,
    SECONDS,
    StudyView,
    TrialView,
)

# By id: a figure saved again under its id replaces the last one.
FIGURES = {
    "learning-curves": learning_curves,
    "loss-against-parameters": loss_against_parameters,
    "best-so-far": best_so_far,
    "time-by-outcome": time_by_outcome,
}


def write_study_content(study: optuna.Study, view: StudyView) -> None:
    """Replace the study's note and figures; nothing else of the study is touched.

    Two processes at once would leave a mixture, unless each calls this within a
    `search.trials.storage.transaction`. Raises what the storage raises.
    """
    note = study_note(view)
    figures = {name: make(view) for name, make in FIGURES.items()}
    save_note(study, note)
    for name, figure in figures.items():
        save_plotly_graph_object(study, figure, graph_object_id=name)


def name_metrics(study: optuna.Study) -> None:
    """Say what a trial's value is, for axes and columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(["validation loss"])


def trial_attributes(trial: TrialView) -> dict[str, int | float]:
    """What a trial is given as user attributes; only what is known and finite.

    Accuracy and error, in [0, 1], are those of the epoch with the lowest validation loss.
    """
    found: dict[str, int | float | None] = {
        PARAMETERS: trial.parameters,
        SECONDS: round(trial.seconds, 2),
        EPOCHS: len(trial.curve),
    }
    if trial.best is not None:
        error = trial.best.validation_error
        found |= {ACCURACY: round(1 - error, 6), ERROR: error, BEST_EPOCH: trial.best.epoch}
    return {key: v for key, v in found.items() if v is not None and math.isfinite(v)}
