"""On a real SQLite database, read back with optuna-dashboard's own functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._note import get_note_from_system_attrs

from search.reporting.dashboard_content import (
    FIGURES,
    make_study_content,
    write_study_content,
)
from search.reporting.note import study_note
from search.trials.opening import open_database
from search.trials.storage import transaction
from search.trials.view import StudyView

MakeTrial = Callable[..., Any]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[optuna.Study]:
    db = open_database(f"sqlite:///{tmp_path}/studies.db")
    yield optuna.create_study(storage=db.optuna, study_name="fashion", direction="minimize")
    db.close()


def system_attributes(study: optuna.Study) -> dict[str, Any]:
    return dict(study._storage.get_study_system_attrs(study._study_id))


def test_content_is_replaced_and_never_piles_up(
    study: optuna.Study,
    small_study: StudyView,
    big_study: Callable[[int, int], StudyView],
) -> None:
    for view in (small_study, big_study(1000, 12), small_study):
        write_study_content(study, make_study_content(view))
        plots = get_plotly_graph_objects(system_attributes(study))
        assert set(plots) == set(FIGURES)
        for name, make in FIGURES.items():
            assert plots[name] == make(view).to_json()
            assert json.loads(plots[name])["data"]
        assert get_note(study) == study_note(view)


def test_two_writers_in_transactions_never_leave_a_mixture(
    tmp_path: Path,
    study: optuna.Study,
    small_study: StudyView,
    big_study: Callable[[int, int], StudyView],
) -> None:
    views = (small_study, big_study(200, 12))
    wholes = [
        {"note": study_note(view), **{name: make(view).to_json() for name, make in FIGURES.items()}}
        for view in views
    ]

    def write_often(view: StudyView) -> None:
        db = open_database(f"sqlite:///{tmp_path}/studies.db")
        mine = optuna.load_study(storage=db.optuna, study_name="fashion")
        for _ in range(5):
            with transaction(db, study_id=mine._study_id):
                write_study_content(mine, make_study_content(view))
        db.close()

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(write_often, view) for view in views]
        while not all(writer.done() for writer in writers):
            attributes = system_attributes(study)
            if attributes:
                note = get_note_from_system_attrs(attributes, None)["body"]
                assert {"note": note, **get_plotly_graph_objects(attributes)} in wholes
        for writer in writers:
            writer.result()


def test_a_thousand_trials_take_a_bounded_number_of_rows(
    study: optuna.Study, big_study: Callable[[int, int], StudyView]
) -> None:
    write_study_content(study, make_study_content(big_study(1000, 12)))
    rows = system_attributes(study)
    assert len(rows) < 60
    assert max(len(json.dumps(value)) for value in rows.values()) < 5_000


@pytest.mark.parametrize("state", ["running", "failed", "waiting", "pruned"])
def test_studies_without_a_finished_trial_have_content_too(
    study: optuna.Study, make_view: Callable[..., StudyView], make_trial: MakeTrial, state: str
) -> None:
    write_study_content(study, make_study_content(make_view()))
    write_study_content(
        study, make_study_content(make_view([make_trial(0, state=state, parameters=None)]))
    )
    assert "No trial has run to its end yet." in get_note(study)
