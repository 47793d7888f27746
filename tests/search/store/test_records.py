"""Epochs, test evaluations and trials as they were recorded."""

import math
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy import select, update

from search.store.database import Database, read, write
from search.store.leases import Lease
from search.store.opening import open_database
from search.store.records import (
    add_result,
    best_epoch,
    complete_result,
    epochs_of,
    read_trials,
    record_epoch,
    results_of,
)
from search.store.schema import epochs, results, trials
from search.store.studies import StudyHandle
from search.training.epoch import Epoch
from tests.search.long_studies import fill
from tests.search.made_up_views import trial_view
from tests.search.worker_processes import report
from tests.search.workplaces import take
from tests.search.zones import EAST, zone


def test_an_epoch_as_it_was_reported(db: Database, study: StudyHandle, lease: Lease) -> None:
    values = {
        "epoch": 3,
        "train_loss": 0.1 + 0.2,  # every bit of a double
        "train_error": 0.25,
        "validation_loss": 1 / 3,
        "validation_error": 0.125,
        "learning_rate": 1e-300,
        "seconds": 12.5,
        "images": 50_000,
    }
    epoch = Epoch(**values, metrics={"calibrated_loss": 0.25, "odd": math.nan})  # type: ignore[arg-type]
    began = time.time()
    record_epoch(db, lease, epoch, 0.25)
    (row,) = epochs_of(db, study.study_id, objective="calibrated_validation_loss")
    assert {name: getattr(row, name) for name in values} == values
    assert (row.trial_number, row.metrics) == (lease.trial_number, {"calibrated_loss": 0.25})
    assert (row.worker, row.attempt) == (lease.worker, 1)
    assert row.value == 0.25
    assert epochs_of(db, study.study_id)[0].value == 1 / 3
    assert began - 0.01 <= row.reported_at <= time.time() + 0.01
    assert study.study.trials[0].intermediate_values == {3: 0.25}


def test_the_first_report_stands(db: Database, study: StudyHandle, lease: Lease) -> None:
    report(db, lease, 1, 0.5)
    report(db, lease, 1, 0.1)
    assert [row.validation_loss for row in epochs_of(db, study.study_id)] == [0.5]
    assert study.study.trials[0].intermediate_values == {1: 0.5}


def test_a_partial_epoch_is_no_lowest_value_of_whole_ones(db: Database, lease: Lease) -> None:
    for epoch, loss in enumerate([0.1, 0.5, 0.7, 0.4]):
        report(db, lease, epoch, loss)
    lowest = select(epochs.c.best_validation_loss).order_by(epochs.c.epoch)
    with db.engine.connect() as connection:
        assert list(connection.scalars(lowest)) == [0.1, 0.5, 0.5, 0.4]


def test_of_epochs_with_equal_values_the_one_with_the_lowest_raw_loss_is_best() -> None:
    rows = [replace(it, value=0.0) for it in trial_view(0, [0.4, 0.1, 0.2]).curve]
    assert best_epoch(rows) == rows[1]
    assert best_epoch([*rows, replace(rows[0], value=-0.1)]) == replace(rows[0], value=-0.1)
    assert best_epoch([replace(rows[0], value=math.nan)]) is None


def test_non_finite_values_are_read_back(db: Database, study: StudyHandle, lease: Lease) -> None:
    losses = [math.nan, math.inf, -math.inf]
    for epoch, loss in enumerate(losses):
        report(db, lease, epoch, loss)
    assert repr([row.validation_loss for row in epochs_of(db, study.study_id)]) == repr(losses)
    with db.engine.connect() as connection:
        assert set(connection.scalars(select(epochs.c.best_validation_loss))) == {None}


def test_deleted_by_a_client_that_ignores_foreign_keys(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with closing(open_database(f"sqlite:///{path}")) as db:
        study = StudyHandle.of(db, optuna.create_study(storage=db.optuna))
        report(db, take(study), 1)
        with closing(sqlite3.connect(path)) as client, client:
            client.execute("DELETE FROM trials")
        assert epochs_of(db, study.study_id) == []


def test_results_record_when_the_test_set_was_opened(db: Database, study: StudyHandle) -> None:
    assert results_of(study) == []
    other = StudyHandle.of(db, optuna.create_study(study_name="other", storage=db.optuna))
    began, moment = datetime.now(UTC), timedelta(seconds=0.01)
    for opened_by, number, seeds in ((study, 7, [1, 2, 3]), (study, 8, [4]), (other, 1, [])):
        add_result(opened_by, trial_number=number, seeds=seeds, result_id=f"of trial {number}")
    add_result(study, trial_number=9, seeds=[9], result_id="of trial 8")  # already on record
    figures = {"accuracy": 0.93, "confusion": [[1, 0], [0, 1]], "text": "Größe"}
    complete_result(db, "of trial 8", figures)
    complete_result(db, "of trial 8", {})  # what was added first stands
    rows = results_of(study)
    opened, scored = rows
    assert (opened.result_id, opened.seeds) == ("of trial 7", (1, 2, 3))
    assert opened.figures is None  # it was opened, however that ended
    assert (scored.trial_number, scored.seeds, scored.figures) == (8, (4,), figures)
    assert began - moment <= scored.opened_at <= datetime.now(UTC) + moment
    ahead = update(results).where(results.c.result_id == "of trial 7").values(opened_at=4e9)
    write(db, lambda connection: connection.execute(ahead))  # by a clock that was then set back
    add_result(study, trial_number=6, seeds=[5], result_id="of trial 6")
    assert [row.trial_number for row in results_of(study)] == [8, 7, 6]


def test_a_recreated_study_does_not_own_earlier_test_evaluations(
    db: Database, study: StudyHandle
) -> None:
    """The test set has still been seen; an evaluation of the very same weights is its own."""
    for number in (7, 8):
        add_result(study, trial_number=number, seeds=[1], result_id=f"of trial {number}")
    optuna.delete_study(study_name="study", storage=db.optuna)
    new = StudyHandle.of(db, optuna.create_study(study_name="study", storage=db.optuna))
    complete_result(db, "of trial 7", {"accuracy": 0.93})  # by the process that began it
    assert [row.is_ours for row in results_of(new)] == [False, False]
    add_result(new, trial_number=3, seeds=[1], result_id="of trial 8")
    assert {row.trial_number: row.is_ours for row in results_of(new)} == {7: False, 3: True}


def compared(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "state": trial.state,
        "began": trial.datetime_start,
        "ended": trial.datetime_complete,
        "params": list(trial.params.items()),
        "distributions": trial.distributions,
        "attributes": trial.user_attrs,
        "reports": {step: repr(it) for step, it in trial.intermediate_values.items()},
    }


def test_trials_are_read_as_optuna_reads_them(tmp_path: Path) -> None:
    db, study = fill(tmp_path / "studies.db", 12)
    lease = take(study, total=10**6)
    db.optuna.set_trial_user_attr(lease.trial_id, "overrides", {"depth": [1, 2]})
    for step, value in ((0, 0.5), (1, math.nan)):
        db.optuna.set_trial_intermediate_value(lease.trial_id, step, value)
    with zone(EAST):  # to which Optuna converts its times
        found = read(db, lambda connection: read_trials(connection, trials.c.study_id == 1))
        assert [trial.number for trial in found] == list(range(13))
        assert list(map(compared, found)) == list(map(compared, study.study.get_trials()))
    some = read(db, lambda connection: read_trials(connection, trials.c.number.in_([3, 12])))
    assert [trial.number for trial in some] == [3, 12]
    db.close()
