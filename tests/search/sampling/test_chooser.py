"""What a free worker reads from a study."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import TrialState

from search.running.by_hand import continue_trials
from search.sampling import chooser as chooser_module
from search.sampling.chooser import Chooser, Contenders, make_chooser
from search.sampling.forecast import fit
from search.sampling.priors import prior_for
from search.spec.config import StudySpec
from search.store.claims import claim
from search.store.database import Database, read, transaction
from search.store.leases import Lease, drop, finish, run_again
from search.store.studies import StudyHandle
from tests.search.long_studies import SPEC, Fill
from tests.search.worker_processes import report
from tests.search.workplaces import take


def chooser(study: StudyHandle, spec: StudySpec = SPEC) -> Chooser:
    made = make_chooser(Contenders(study, replace(spec, pruner="promotion")))
    assert made is not None
    return made


def test_a_paused_trial_is_followed_until_it_is_dropped(filled: Fill) -> None:
    db, study = filled(300, paused=150)
    known = chooser(study)
    before = read(db, known.contenders)
    assert sum(one.state == "paused" for one in before) == 150
    wanted = next(one for one in before if one.state == "paused")
    lease = claim(study, total=300, choose=lambda _: wanted.number)
    assert isinstance(lease, Lease)
    held = {one.number: one for one in read(db, known.contenders)}[wanted.number]
    assert held == replace(wanted, state="running")
    epoch = max(wanted.curve) + 1
    report(db, lease, epoch, 0.25)
    finish(study, lease, state=TrialState.RUNNING)
    aside = {one.number: one for one in read(db, known.contenders)}[wanted.number]
    assert aside == replace(wanted, curve={**wanted.curve, epoch: 0.25})
    assert drop(study, [wanted.number]) == [wanted.number]
    for _ in range(2):
        found = read(db, known.contenders)
        assert found[wanted.number] == replace(aside, state="pruned")
        assert found == read(db, chooser(study).contenders)


def test_an_ended_trial_that_others_resume_and_end_between_two_reads_is_read_again(
    filled: Fill,
) -> None:
    db, study = filled(50)
    known = chooser(study).contenders
    one = next(it for it in read(db, known) if it.state == "pruned")
    for state in (TrialState.PRUNED, TrialState.COMPLETE):
        continue_trials(study, replace(SPEC, trials=50), [one.number])
        lease = take(study, total=50)
        assert lease.trial_number == one.number
        epoch = 20 + (state == TrialState.COMPLETE)
        report(db, lease, epoch, 0.01)
        finish(study, lease, state=state, value=0.01 if epoch == 21 else None)
        found = read(db, known)[one.number]
        assert (found.state, max(found.curve)) == (state.name.lower(), epoch)
        assert read(db, known) == read(db, chooser(study).contenders)


def test_an_objective_below_half_a_mistake_on_all_validation_images_counts_as_that(
    filled: Fill,
) -> None:
    db, study = filled(2)
    lease = take(study, total=3)
    report(db, lease, 1, 0.002)
    assert read(db, chooser(study).contenders)[2].level() == math.log(0.002)
    report(db, lease, 2, 0.0)
    assert read(db, chooser(study).contenders)[2].level() == math.log(0.5 / 287)


def test_a_limited_number_of_trials_stays_paused_at_the_partial_epoch(
    filled: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, study = filled(60, paused=40)
    rule = chooser(study)
    monkeypatch.setattr(chooser_module, "KEPT", 40)
    assert rule.surplus() == []
    monkeypatch.setattr(chooser_module, "KEPT_WITHOUT", 5)
    contenders = {one.number: one for one in read(study.db, rule.contenders)}
    looked = [it for it in contenders.values() if it.state == "paused" and max(it.curve) == 0]
    least = rule.surplus()
    assert len(least) == len(looked) - 5 > 0
    estimates = fit(contenders.values(), SPEC.epochs, prior_for(SPEC.dataset)).estimates(looked)
    kept = [estimates[it.number][0] for it in looked if it.number not in least]
    assert max(kept) <= min(estimates[number][0] for number in least)
    drop(study, least)
    assert rule.surplus() == []


def test_epochs_of_failed_trials_are_spent(db: Database, study: StudyHandle) -> None:
    """A budget of 6 epochs: 2 trials complete and 1 paused, each after one; then 3 are lost."""
    for state in (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING):
        lease = take(study, total=9)
        report(db, lease, 1, 0.5)
        value = 0.5 if state == TrialState.COMPLETE else None
        finish(study, lease, state=state, value=value)
    spec = replace(SPEC, trials=3, epochs=4, budget=0.5)
    assert read(db, chooser(study, spec)) == 2
    lease = take(study, total=9, choose=lambda _: "new")
    for epoch in (1, 2, 3):
        report(db, lease, epoch, 0.5)
    finish(study, lease, state=TrialState.FAIL)
    assert read(db, chooser(study, spec)) is None


def test_ended_trials_are_not_read_again(
    filled: Fill, rows_read: Callable[[Database], list[Any]]
) -> None:
    db, study = filled(300)
    known = chooser(study)
    before = read(db, known.contenders)
    assert len(before) == 300
    lease = claim(study, total=10**6)
    assert isinstance(lease, Lease)
    report(db, lease, 0, 0.5)
    counted = rows_read(db)
    running = read(db, known.contenders)[-1]
    assert (running.number, running.state, running.curve) == (300, "running", {0: 0.5})
    assert len(counted) < 10
    report(db, lease, 1, 0.25)
    finish(study, lease, state=TrialState.PRUNED)
    for _ in range(2):
        assert read(db, known.contenders) == read(db, chooser(study).contenders)
    with transaction(db) as connection:  # as if the study's budget was raised
        run_again(connection, [lease.trial_id])
    again = read(db, known.contenders)
    assert again == [*before, replace(running, curve={0: 0.5, 1: 0.25})]
    assert again == read(db, chooser(study).contenders)
