"""A bounded part of a long study, with what is said of all of it exact."""

import json
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import insert

from search.analysis.times import busy_seconds, time_spent, trial_seconds
from search.analysis.wording import all_counts
from search.figures.figures_study import best_so_far, pareto_front, time_by_outcome
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.space import suggest
from search.store.catalog import find_study, require_study
from search.store.claims import claim
from search.store.leases import Lease, finish, sample
from search.store.reading import view_study
from search.store.status import status
from search.store.storage import Database
from search.store.tables import trial_user_attributes
from search.store.view import PARAMETERS, REASON, StudyView
from search.terminal.summary import status_text
from tests.search.long_studies import SPEC, Fill

MOST = 60


def begin(db: Database, study: optuna.Study) -> Lease:
    lease = claim(db, study, total=10**6)
    assert isinstance(lease, Lease)
    sample(db, study, lease, lambda trial: suggest(trial, SPEC))
    return lease


@pytest.fixture
def long(filled: Fill) -> tuple[StudyView, StudyView]:
    """A study with every kind of trial, read whole and in part."""
    db, study = filled(500)
    whole = view_study(db, study, most=None)
    sizes = [
        {"trial_id": t.trial_id, "key": PARAMETERS, "value_json": json.dumps(t.parameters)}
        for t in whole.in_state("complete")
    ]
    with db.engine.begin() as connection:
        connection.execute(insert(trial_user_attributes), sizes)
    running = begin(db, study)
    assert running.trial_number == 500
    for number in range(20):
        lease = begin(db, study)
        finish(db, lease, study, state=TrialState.FAIL, attributes={REASON: f"reason {number}"})
    again = find_study(db, "s")
    assert again is not None
    return view_study(db, again, most=None), view_study(db, study, most=MOST)


def test_a_short_study_is_read_whole(filled: Fill) -> None:
    db, study = filled(MOST)
    view = view_study(db, study, most=MOST)
    assert view == view_study(db, study, most=None)
    assert view.left_out is None
    assert view.typical == view.trials


def test_counts_times_and_the_best_are_exact(long: tuple[StudyView, StudyView]) -> None:
    whole, part = long
    assert len(whole.trials) == 521
    assert len(part.trials) < 3 * MOST
    assert part.left_out is not None
    assert (part.count(), part.finished) == (521, whole.finished)
    assert all_counts(part) == all_counts(whole)
    assert part.best == whole.best
    assert part.leaderboard[: MOST // 5] == whole.leaderboard[: MOST // 5]
    assert busy_seconds(part) == pytest.approx(busy_seconds(whole))
    assert trial_seconds(part) == pytest.approx(trial_seconds(whole))
    assert time_spent(part) == time_spent(whole)
    assert time_by_outcome(part).data[0].text == time_by_outcome(whole).data[0].text


def test_overlapping_work_counts_once_by_the_clock(filled: Fill) -> None:
    db, study = filled(200)
    with db.engine.begin() as connection:  # some reports an hour long, over those before
        connection.exec_driver_sql("UPDATE epochs SET seconds = 3600 WHERE trial_number % 17 = 3")
    expected = busy_seconds(view_study(db, study, most=None))
    assert busy_seconds(view_study(db, study, most=MOST)) == pytest.approx(expected)


def test_in_the_part_are(long: tuple[StudyView, StudyView]) -> None:
    whole, part = long
    there = {trial.number for trial in part.trials}
    assert part.left_out is not None
    assert {trial.number for trial in whole.in_state("running")} <= there
    assert {trial.number for trial in whole.trials[-MOST // 5 :]} <= there
    assert {trial.number for trial in whole.trials[:: part.left_out.step]} <= there
    assert [t.number for t in part.typical] == list(range(0, 521, part.left_out.step))
    assert {trial.number for trial in whole.in_state("failed")[-MOST // 5 :]} <= there
    assert pareto_front(part) == pareto_front(whole)
    steps = [
        next(trace for trace in best_so_far(view).data if trace.name == "best so far").y
        for view in long
    ]
    assert list(steps[0]) == list(steps[1])


def test_any_trial_can_be_asked_for(filled: Fill) -> None:
    db, study = filled(300)
    part = view_study(db, study, most=MOST, also=[157, 158])
    assert {157, 158} <= {trial.number for trial in part.trials}
    assert part.count() == 300


def test_a_comparison_is_read_whole(filled: Fill) -> None:
    """Its statements rest on every repeat."""
    arms = tuple(Arm(name=name, values={"depth": depth}) for depth, name in enumerate("ab", 1))
    many = {"repeats": MOST, "trials": 2 * MOST}
    spec = StudySpec(dataset="digits", pruner="none", arms=arms, base="a", **many)
    db, study = filled(2 * MOST, spec)
    view = view_study(db, study, most=MOST)
    assert view.left_out is None
    assert len(view.trials) == 2 * MOST


def test_what_status_reads_does_not_grow_with_the_study(
    filled: Fill, rows_read: Callable[[Database], list[Any]]
) -> None:
    """Beyond one row of totals a state, and what is told of single trials."""
    rows = []
    for count in (200, 2000):
        db, _ = filled(count)
        counted = rows_read(db)
        study = require_study(db, None)
        text = status_text(view_study(db, study, most=MOST), status(db, study))
        assert f"{count} of" in text.replace(" 000", "000")
        rows.append(len(counted))
    assert rows[0] > 10 * MOST
    assert rows[1] < 1.3 * rows[0]


def test_a_second_look_reads_what_is_new(
    filled: Fill, rows_read: Callable[[Database], list[Any]]
) -> None:
    db, study = filled(500)
    view_study(db, study, most=MOST)
    lease = begin(db, study)
    counted = rows_read(db)
    assert view_study(db, study, most=MOST).trials[-1].number == lease.trial_number
    assert len(counted) < 4 * MOST  # ids alone, of a part chosen anew
