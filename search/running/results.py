"""A study's results as tables and figures, read from its database."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields
from typing import Any

import plotly.graph_objects as go

from search.analysis.measures import MEASURES, measured
from search.figures import FIGURES, draw_all
from search.spec.config import check_study_name
from search.store import DEFAULT_STORAGE
from search.store.opening import open_database
from search.store.studies import require_study
from search.store.views import StudyView, TrialView, view_study
from search.training.epoch import Epoch

MEASURED = tuple(name for name in MEASURES if not name.startswith("test"))
EPOCH = tuple(field.name for field in fields(Epoch) if field.name != "metrics")


def load_study(study: str | None = None, *, storage: str = DEFAULT_STORAGE) -> StudyView:
    """A study as it stands now; reads the database only, also while the study runs.

    Example:
        >>> view = load_study("digits")
        >>> view.finished, view.best.number, view.best.best.value

    Args:
        study: its name; None for the one that was worked on last.
        storage: URL of the database.

    Returns:
        Specification, data set, trials with their epochs, and every test evaluation.

    Raises:
        SpecError: a name that no study can have.
        StorageError: no such database or study.
    """
    if study is not None:
        check_study_name(study)
    with closing(open_database(storage, must_exist=True)) as db:
        return view_study(require_study(db, study))


def trials_table(view: StudyView) -> list[dict[str, Any]]:
    """A row for each trial, in the order of their numbers, finished or not.

    Example:
        >>> table = pandas.DataFrame(trials_table(load_study("digits")))
        >>> table.sort_values("value").head()

    Args:
        view: from `load_study` or `run_study`.

    Returns:
        Rows with the same keys, None where there is no value. `trial`: number; `state`: running,
        paused (at a rung), interrupted (begun, and held by no worker now), complete, pruned, failed
        or waiting (not begun); `baseline`: made by hand; `arm`, `repeat` (from 0): of a comparison.
        At the epoch of the lowest `value` (of the study's objective), `best_epoch`: `train_*` and
        `validation_*`, losses in nats, errors and accuracies in [0, 1]. `parameters`: of the
        network; `epochs`: trained; `learning_rate`: its peak; `seconds`: spent on training and
        validation; `started`, `finished`: local times of the worker; `reason`: why it failed.
        Then, for each searched parameter, `params_<name>`.
    """
    searched = list(dict.fromkeys(name for trial in view.trials for name in trial.params))
    return [
        {
            **_whose(trial),
            "baseline": trial.is_baseline,
            **{name: measured(trial, name) for name in MEASURED},
            "best_epoch": None if trial.best is None else trial.best.epoch,
            "value": None if trial.best is None else trial.best.value,
            "epochs": len(trial.curve),
            "learning_rate": None if trial.config is None else trial.config.recipe.learning_rate,
            "seconds": trial.seconds,
            "started": trial.started,
            "finished": trial.finished,
            "reason": trial.reason,
            **{f"params_{name}": trial.params.get(name) for name in searched},
        }
        for trial in view.trials
    ]


def epochs_table(view: StudyView) -> list[dict[str, Any]]:
    """A row for each finished epoch of each trial, by trial and epoch.

    Example:
        >>> table = pandas.DataFrame(epochs_table(load_study("digits")))
        >>> table.pivot(index="epoch", columns="trial", values="validation_loss").plot()

    Args:
        view: from `load_study` or `run_study`.

    Returns:
        Rows with the same keys: `trial`, `state`, `arm`, `repeat`, `value` as in `trials_table`,
        and what `search.training.epoch.Epoch` says; losses and errors are NaN where not measured.
    """
    return [
        {**_whose(trial), "value": row.value, **{name: getattr(row, name) for name in EPOCH}}
        for trial in view.trials
        for row in trial.curve
    ]


def _whose(trial: TrialView) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state,
        "arm": trial.arm,
        "repeat": trial.repeat,
    }


def study_figures(view: StudyView) -> dict[str, go.Figure]:
    """The figures of the study's report, by the names of their files, in its order.

    Example:
        >>> shown = study_figures(load_study("digits"))
        >>> shown["history"].show()

    Args:
        view: from `load_study` or `run_study`.

    Returns:
        Plotly figures, the caller's to change: those of `search.figures.FIGURES` that apply to
        such a study. One that has nothing to show yet says so.
    """
    return draw_all(FIGURES, view)
