"""Views: a refreshed one is the same as one read from scratch."""

import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from search.sampling.chooser import Contenders
from search.spec.config import StudySpec
from search.spec.parameters import read_parameter
from search.spec.space import suggest
from search.store.claims import claim
from search.store.database import Database
from search.store.leases import Lease, finish, release, sample
from search.store.schema import REASON, leases, trials
from search.store.studies import StudyHandle, create_study, find_study, require_study, set_total
from search.store.views import StudyView, view_study
from search.terminal.summary import status_text
from tests.made_up_data import made_up_info
from tests.search.long_studies import SPEC as LONG_SPEC
from tests.search.long_studies import Fill
from tests.search.worker_processes import report
from tests.search.workplaces import take
from tests.search.zones import EAST, WEST, zone

SPEC = StudySpec(
    dataset="noise",
    trials=100,
    pruner="none",
    space={"dropout": read_parameter("dropout", {"low": 0.0, "high": 0.5})},
)


@pytest.fixture
def noise(db: Database) -> StudyHandle:
    info = made_up_info("noise", validation_count=10, training_count=100)
    return create_study(db, "study", SPEC, info, validation_count=10)


def begin(study: StudyHandle, spec: StudySpec = SPEC, worker: str | None = None) -> Lease:
    lease = take(study, total=10**6, worker=worker)
    sample(study, lease, lambda trial: suggest(trial, spec))
    return lease


def fresh(db: Database) -> StudyView:
    return view_study(require_study(db, "study"))


def test_a_refreshed_view_equals_a_fresh_one(db: Database, noise: StudyHandle) -> None:
    assert view_study(noise) == fresh(db)
    first, second, third = (begin(noise) for _ in range(3))
    for epoch in range(3):
        for lease in (first, second, third):
            report(db, lease, epoch, 1.0 / (epoch + 1))
            assert repr(view_study(noise)) == repr(fresh(db))
    finish(noise, second, state=TrialState.COMPLETE, value=1 / 3, attributes={"accuracy": 1})
    assert repr(view_study(noise)) == repr(fresh(db))
    report(db, first, 3, 0.1)
    finish(noise, third, state=TrialState.FAIL, attributes={REASON: "because"})
    release(db, first)
    seen = view_study(noise)
    assert repr(seen) == repr(fresh(db))
    # The first was handed back: no worker holds it.
    assert [trial.state for trial in seen.trials] == ["interrupted", "complete", "failed"]
    assert begin(noise).trial_number == 0  # resumed
    assert view_study(noise).trials[0].state == "running"
    assert [len(trial.curve) for trial in seen.trials] == [3, 2, 2]
    assert seen.trials[2].reason == "because"


def test_a_trial_that_ended_paused_is_shown_paused_again(db: Database, noise: StudyHandle) -> None:
    lease = begin(noise)
    report(db, lease, 1)
    finish(noise, lease, state=TrialState.RUNNING)
    assert claim(noise, total=1, choose=lambda _: None) == "done"
    assert view_study(noise).trials[0].state == "pruned"
    set_total(noise, SPEC.trials + 1)
    assert view_study(noise).trials[0].state == "paused"
    assert repr(view_study(noise)) == repr(fresh(db))


@pytest.mark.parametrize("where", [EAST, WEST])
def test_times_are_local(db: Database, noise: StudyHandle, where: str) -> None:
    with zone(where):
        began = time.time()
        lease = begin(noise)
        report(db, lease, 1)
        finish(noise, lease, state=TrialState.COMPLETE, value=1.0)
        (trial,) = view_study(noise).trials
        assert trial.started is not None
        assert trial.finished is not None
        times = [trial.started.timestamp(), trial.curve[0].reported_at, trial.finished.timestamp()]
        assert all(began - 0.01 <= it <= time.time() + 0.01 for it in times)
        assert repr(view_study(noise)) == repr(fresh(db))


@pytest.mark.parametrize("minute", [30, 90])  # 02:30 in summer time, and an hour later again
def test_times_in_the_hour_that_comes_twice(minute: int) -> None:
    stored = datetime(2026, 10, 25, minute // 60, minute % 60)
    with zone("CET-1CEST,M3.5.0,M10.5.0/3"), sa.create_engine("sqlite://").connect() as connection:
        query = sa.select(sa.literal(stored, trials.c.datetime_start.type))
        assert connection.scalar(query).timestamp() == stored.replace(tzinfo=UTC).timestamp()


def test_a_copy_with_more_trials_than_its_total_shows_them_as_its_total(
    db: Database, noise: StudyHandle
) -> None:
    for _ in range(3):
        finish(noise, begin(noise), state=TrialState.COMPLETE, value=1.0)
    optuna.copy_study(
        from_study_name="study", from_storage=db.optuna, to_storage=db.optuna, to_study_name="copy"
    )
    copy = find_study(db, "copy")
    assert copy is not None
    set_total(copy, 2)
    shown = view_study(copy)
    assert (shown.finished, shown.spec.trials) == (3, 3)
    assert "3 of 3 trials finished" in status_text(shown)


def test_who_holds_a_trial(db: Database, noise: StudyHandle) -> None:
    begin(noise, worker="host-1:1:2:3")
    with db.engine.begin() as connection:
        connection.execute(sa.update(leases).values(expires_at=0))
    begin(noise, worker="host-2:1:2:3")
    noise.study.enqueue_trial({"dropout": 0.25})
    noise.study.ask()  # by plain Optuna
    noise.study.enqueue_trial({"dropout": 0.5})
    held, stranger, queued = view_study(noise).trials
    assert (held.state, held.worker) == ("running", "host-2:1:2:3")
    assert (stranger.state, stranger.worker) == ("running", None)
    assert queued.state == "waiting"


@pytest.mark.parametrize("paused", [0, 1100])
def test_no_statement_has_a_parameter_for_each_trial(filled: Fill, paused: int) -> None:
    db, study = filled(1650, paused=paused)
    db.engine.dispose()

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 1050)

    sa.event.listen(db.engine, "connect", limit)
    contenders = Contenders(study, LONG_SPEC)
    for _ in range(2):
        seen = view_study(study)
        assert (seen.count(), seen.count("paused")) == (1650, paused)
        assert all(trial.reports for trial in seen.trials)
        with db.engine.begin() as connection:
            assert len(contenders.begun(connection)) == 1650


def test_a_refreshed_view_reads_only_what_is_new(
    filled: Fill, rows_read: Callable[[Database], list[Any]]
) -> None:
    db, study = filled(500)
    view_study(study)
    lease = begin(study, LONG_SPEC)
    counted = rows_read(db)
    assert view_study(study).trials[-1].number == lease.trial_number
    assert len(counted) < 100
