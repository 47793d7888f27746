"""What a draw and a claim read does not grow with the study."""

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.sampling.choosing import make_sampler
from search.spec.config import SamplerName, StudySpec
from search.spec.space import suggest
from search.store import evidence
from search.store.catalog import find_study, latest_study
from search.store.claims import claim
from search.store.evidence import Evidence
from search.store.leases import Lease, finish, release, sample
from search.store.storage import Database
from tests.search.long_studies import SPEC, Fill


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "BEST", 12)
    monkeypatch.setattr(evidence, "LATEST", 15)


def begin(db: Database, study: optuna.Study) -> Lease:
    lease = claim(db, study, total=10**6)
    assert isinstance(lease, Lease)
    sample(db, study, lease, lambda trial: suggest(trial, SPEC))
    return lease


def test_a_short_study_is_shown_whole(filled: Fill) -> None:
    db, study = filled(60)
    shown = Evidence(db, study, SPEC)()
    assert shown == study.get_trials(deepcopy=False)


@pytest.mark.usefixtures("small_bounds")
def test_of_a_long_study_the_best_the_latest_and_the_running_ones(filled: Fill) -> None:
    db, study = filled(100)
    running = begin(db, study)
    for _ in range(30):
        finish(db, begin(db, study), study, state=TrialState.PRUNED)
    shown = Evidence(db, study, SPEC)()
    everything = study.get_trials(deepcopy=False)
    complete = [trial for trial in everything if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: (trial.value, trial.number))[:12]
    expected = {trial.number for trial in (*best, *everything[-15:])} | {running.trial_number}
    assert [trial.number for trial in shown] == sorted(expected)
    assert len(shown) == 12 + 15 + 1


@pytest.mark.parametrize(("sampler", "present"), [("gp", 30), ("tpe", 120)])
def test_the_draws_of_a_short_study_are_what_all_trials_give(
    filled: Fill, sampler: SamplerName, present: int
) -> None:
    spec = StudySpec(dataset="digits", space=SPEC.space, sampler=sampler)
    drawn = []
    for shown in (True, False):
        db, study = filled(present, spec)
        study.sampler = make_sampler(spec, Evidence(db, study, spec) if shown else None)
        drawn.append([])
        for _ in range(3):
            begin(db, study)
            drawn[-1].append(study.get_trials()[-1].params)
    assert drawn[0] == drawn[1]


@pytest.mark.usefixtures("small_bounds")
@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_what_is_read_to_claim_and_draw_is_bounded(
    filled: Fill, rows_read: Callable[[Database], list[Any]], sampler: SamplerName
) -> None:
    """From opening the study to the second draw; the second reads only what is new."""
    spec = StudySpec(dataset="digits", space=SPEC.space, sampler=sampler)
    rows: list[list[int]] = []
    for count in (80, 800):
        db, _ = filled(count, spec)
        counted = rows_read(db)
        study = latest_study(db)
        first = begin(db, study)
        rows.append([len(counted)])
        counted.clear()
        finish(db, first, study, state=TrialState.PRUNED)
        begin(db, study)
        rows[-1].append(len(counted))
    (first_of_80, next_of_80), (first_of_800, next_of_800) = rows
    assert first_of_80 > 27 * len(SPEC.space)
    assert first_of_800 < 1.3 * first_of_80  # which trials are the best differs, and their rows
    assert next_of_800 < 1.3 * next_of_80
    assert next_of_800 < first_of_800 / 2


def test_a_trial_taken_over_before_it_had_parameters_gets_them(filled: Fill) -> None:
    """By a process that never read it, and so without Optuna's cache of all trials."""
    db, study = filled(30)
    dead = claim(db, study, total=10**6)
    assert isinstance(dead, Lease)
    release(db, dead)
    again = find_study(db, "s")
    assert again is not None
    lease = begin(db, again)
    assert (lease.trial_number, lease.token) == (dead.trial_number, 2)
    assert db.optuna.get_trial(lease.trial_id).params.keys() == SPEC.space.keys()


def test_a_queued_trial_comes_first_and_keeps_its_parameters(filled: Fill) -> None:
    db, _ = filled(30)
    optuna.load_study(study_name="s", storage=db.optuna).enqueue_trial({"dropout": 0.125})
    again = find_study(db, "s")
    assert again is not None
    lease = begin(db, again)
    assert lease.trial_number == 30
    params = db.optuna.get_trial(lease.trial_id).params
    assert params["dropout"] == 0.125
    assert params.keys() == SPEC.space.keys()
