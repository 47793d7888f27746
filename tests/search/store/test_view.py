"""A view asked for again reads little, and shows the same as a first one."""

from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import event

from data.examples import DatasetInfo
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.spec.space import suggest
from search.store.catalog import create_study, find_study, set_total
from search.store.claims import claim
from search.store.leases import Lease, finish, release, sample
from search.store.reading import view_study
from search.store.status import status
from search.store.storage import Database
from search.store.view import StudyView
from search.terminal.summary import status_text

SPEC = StudySpec(
    dataset="noise",
    trials=100,
    pruner="none",
    space={"dropout": read_parameter("dropout", {"low": 0.0, "high": 0.5})},
)


@pytest.fixture
def study(db: Database) -> optuna.Study:
    info = DatasetInfo(
        name="noise",
        title="Noise",
        class_names=tuple("abcdefghij"),
        image_shape=(1, 28, 28),
        mirror_changes_class=False,
        validation_count=10,
        training_count=100,
    )
    return create_study(db, "study", SPEC, info, validation_count=10)


@pytest.fixture
def read(db: Database) -> Iterator[list[set[int]]]:
    """The ids of the trials whose epochs were asked for, of each look."""
    asked: list[set[int]] = []

    def before(_connection: Any, _cursor: Any, statement: str, arguments: Any, *_: Any) -> None:
        if "FROM epochs" in statement and "ORDER BY" in statement:
            asked.append(set(arguments.values() if isinstance(arguments, dict) else arguments))

    event.listen(db.engine, "before_cursor_execute", before)
    yield asked
    event.remove(db.engine, "before_cursor_execute", before)


def begin(db: Database, study: optuna.Study) -> Lease:
    lease = claim(db, study, total=100)
    assert isinstance(lease, Lease)
    sample(db, study, lease, lambda trial: suggest(trial, SPEC))
    return lease


def fresh(db: Database) -> StudyView:
    study = find_study(db, "study")
    assert study is not None
    return view_study(db, study)


def test_a_second_look_sees_what_a_first_one_would(
    db: Database,
    study: optuna.Study,
    report: Callable[..., None],
) -> None:
    assert view_study(db, study) == fresh(db)
    first, second, third = (begin(db, study) for _ in range(3))
    for epoch in range(3):
        for lease in (first, second, third):
            report(db, lease, epoch, 1.0 / (epoch + 1))
            assert repr(view_study(db, study)) == repr(fresh(db))
    finish(db, second, study, state=TrialState.COMPLETE, value=1 / 3, attributes={"accuracy": 1})
    assert repr(view_study(db, study)) == repr(fresh(db))
    report(db, first, 3, 0.1)
    finish(db, third, study, state=TrialState.FAIL, attributes={"reason": "because"})
    release(db, first)
    seen = view_study(db, study)
    assert repr(seen) == repr(fresh(db))
    # The first was handed back: no worker holds it.
    assert [trial.state for trial in seen.trials] == ["interrupted", "complete", "failed"]
    assert begin(db, study).trial_number == 0  # carried on
    assert view_study(db, study).trials[0].state == "running"
    assert [len(trial.curve) for trial in seen.trials] == [3, 2, 2]
    assert seen.trials[2].reason == "because"


def test_epochs_of_ended_trials_are_read_once(
    db: Database, study: optuna.Study, report: Callable[..., None], read: list[set[int]]
) -> None:
    ended, running = begin(db, study), begin(db, study)
    for lease in (ended, running):
        report(db, lease, 1)
    finish(db, ended, study, state=TrialState.PRUNED)
    view_study(db, study)
    view_study(db, study)
    assert read == [{ended.trial_id, running.trial_id}, {running.trial_id}]


def test_a_study_made_anew_shows_nothing_of_the_old_one(
    db: Database, study: optuna.Study, report: Callable[..., None]
) -> None:
    """SQLite gives out the same ids again."""
    lease = begin(db, study)
    report(db, lease, 1, 0.5)
    finish(db, lease, study, state=TrialState.COMPLETE, value=0.5)
    assert len(view_study(db, study).trials[0].curve) == 1
    spec, info = study.user_attrs["spec"], study.user_attrs["dataset"]
    optuna.delete_study(study_name="study", storage=db.optuna)
    again = optuna.create_study(study_name="study", storage=db.optuna)
    again.set_user_attr("spec", spec)
    again.set_user_attr("dataset", info)
    begin(db, again)
    (trial,) = view_study(db, again).trials
    assert (trial.state, trial.curve) == ("running", ())


def test_a_copy_with_more_trials_than_its_total_has_them_for_its_total(
    db: Database, study: optuna.Study
) -> None:
    for _ in range(3):
        finish(db, begin(db, study), study, state=TrialState.COMPLETE, value=1.0)
    optuna.copy_study(
        from_study_name="study", from_storage=db.optuna, to_storage=db.optuna, to_study_name="copy"
    )
    copy = find_study(db, "copy")
    assert copy is not None
    set_total(copy, 2)
    shown = view_study(db, copy)
    assert (shown.finished, shown.spec.trials) == (3, 3)
    assert "3 of 3 trials finished" in status_text(shown, status(db, copy))
