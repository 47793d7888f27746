"""On a real SQLite database, read back with optuna-dashboard's own functions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._note import get_note_from_system_attrs, save_note_with_version

from search.dashboard.dashboard_content import (
    MOST_TRIAL_NOTES,
    make_study_content,
    note_version,
    write_study_content,
)
from search.figures import dashboard_figures
from search.pages.note import placed, study_note
from search.spec.config import StudySpec
from search.spec.study_file import find_study_file, read_study_file
from search.store.database import transaction
from search.store.opening import open_database
from search.store.studies import StudyHandle
from search.store.views import StudyView

MakeTrial = Callable[..., Any]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[StudyHandle]:
    db = open_database(f"sqlite:///{tmp_path}/studies.db")
    made = optuna.create_study(storage=db.optuna, study_name="fashion", direction="minimize")
    yield StudyHandle.of(db, made)
    db.close()


@pytest.fixture
def default_spec() -> StudySpec:
    return StudySpec(dataset="digits", **read_study_file(find_study_file("default")))


def system_attributes(study: StudyHandle) -> dict[str, Any]:
    return dict(study.db.optuna.get_study_system_attrs(study.study_id))


def test_content_is_replaced_and_never_piles_up(
    study: StudyHandle,
    small_study: StudyView,
    big_study: Callable[[int, int], StudyView],
) -> None:
    for view in (small_study, big_study(1000, 12), small_study):
        write_study_content(study, make_study_content(view))
        plots = get_plotly_graph_objects(system_attributes(study))
        drawn = dashboard_figures(view)
        assert set(plots) == set(drawn)
        for name, figure in drawn.items():
            assert plots[name] == figure.to_json()
        assert get_note(study.study) == placed(study_note(view), "")


def test_two_writers_in_transactions_never_leave_a_mixture(
    tmp_path: Path,
    study: StudyHandle,
    small_study: StudyView,
    big_study: Callable[[int, int], StudyView],
) -> None:
    views = (small_study, big_study(200, 12))
    wholes = [
        {"note": placed(study_note(view), "")}
        | {name: figure.to_json() for name, figure in dashboard_figures(view).items()}
        for view in views
    ]

    def write_often(view: StudyView) -> None:
        db = open_database(f"sqlite:///{tmp_path}/studies.db")
        mine = StudyHandle.of(db, optuna.load_study(storage=db.optuna, study_name="fashion"))
        for _ in range(5):
            with transaction(db, study_id=mine.study_id):
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
    study: StudyHandle, big_study: Callable[[int, int], StudyView]
) -> None:
    write_study_content(study, make_study_content(big_study(1000, 12)))
    rows = system_attributes(study)
    assert len(rows) < 70
    assert max(len(json.dumps(value)) for value in rows.values()) < 5_000


@pytest.mark.parametrize("state", ["running", "failed", "waiting", "pruned"])
def test_studies_without_a_finished_trial_have_content_too(
    study: StudyHandle, make_view: Callable[..., StudyView], make_trial: MakeTrial, state: str
) -> None:
    write_study_content(study, make_study_content(make_view()))
    write_study_content(
        study, make_study_content(make_view([make_trial(0, state=state, parameters=None)]))
    )
    assert "No trial has run to its end yet." in get_note(study.study)


def test_failed_trials_say_why_and_what_people_wrote_stays(
    study: StudyHandle, make_view: Callable[..., StudyView], make_trial: MakeTrial
) -> None:
    asked = [study.study.ask() for _ in range(MOST_TRIAL_NOTES + 3)]
    failed = [
        dataclasses.replace(
            make_trial(trial.number, state="failed", reason="out of memory: <b>"),
        )
        for trial in asked
    ]
    save_note(asked[-1], "mine")
    for _ in range(2):
        write_study_content(study, make_study_content(make_view(failed)))
    notes = [get_note(trial) for trial in asked]
    assert notes[3:-1] == ["**Failed**: out of memory: &#60;b&#62;\n"] * (MOST_TRIAL_NOTES - 1)
    assert notes[:3] == ["", "", ""]
    assert notes[-1] == "mine"


def test_what_a_person_writes_into_the_note_stays_and_can_be_saved_while_the_study_runs(
    study: StudyHandle, small_study: StudyView, make_view: Callable[..., StudyView]
) -> None:
    write_study_content(study, make_study_content(make_view()))
    shown, body = note_version(study), get_note(study.study)
    write_study_content(study, make_study_content(small_study))
    # The dashboard takes what was begun at the newest version, and no other.
    assert note_version(study) == shown
    written = f"# Mine\n\nfirst\n\n{body}\nlast\n"
    save_note_with_version(study.db.optuna, study.study_id, None, shown + 1, written)
    for _ in range(2):
        write_study_content(study, make_study_content(small_study))
    ours = placed(study_note(small_study), "")
    assert get_note(study.study) == f"# Mine\n\nfirst\n\n{ours}\nlast\n"


def test_a_note_that_is_being_saved_is_left_alone(
    study: StudyHandle, small_study: StudyView
) -> None:
    content, seen = make_study_content(small_study), note_version(study)
    save_note(study.study, "mine")
    write_study_content(study, content, note_seen=seen)
    assert get_note(study.study) == "mine"
    write_study_content(study, content, note_seen=note_version(study))
    assert get_note(study.study).startswith("mine\n\n<!-- cnn-search: begin")
