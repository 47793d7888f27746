import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import event, update

from search.store import StorageError, StudyGoneError
from search.store.claims import Done, Wait, claim, this_worker
from search.store.database import Database
from search.store.leases import Lease, LostLeaseError, finish, release, renew, sample
from search.store.reading import status
from search.store.schema import leases
from search.store.studies import StudyHandle

ROOT = Path(__file__).parents[3]
SHORT = 0.3  # seconds of a lease that is to run out
FAR = "far:1:1:scope"  # a worker of another host, of which nothing is known but its lease


def take(
    study: StudyHandle,
    total: int = 10,
    seconds: float = 60.0,
    worker: str | None = None,
) -> Lease:
    claimed = claim(study, total=total, lease_seconds=seconds, worker=worker)
    assert isinstance(claimed, Lease)
    return claimed


def end(study: StudyHandle, lease: Lease, state: TrialState) -> None:
    value = 1.0 if state == TrialState.COMPLETE else None
    finish(study, lease, state=state, value=value)


def ended_worker() -> str:
    """The name of a process of this host that is no more."""
    program = "from search.store.claims import *; print(this_worker())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_new_trial(study: StudyHandle) -> None:
    lease = take(study)
    assert (lease.trial_number, lease.token, lease.attempt) == (0, 1, 1)
    assert lease.worker == this_worker()
    assert not lease.exhausted
    assert take(study).trial_number == 1


def test_slots_are_counted(study: StudyHandle) -> None:
    first, second, third = (take(study, total=3) for _ in range(3))
    assert claim(study, total=3) == Wait(running=3)
    end(study, first, TrialState.COMPLETE)
    assert claim(study, total=3) == Wait(running=2)
    end(study, second, TrialState.FAIL)  # does not count
    fourth = take(study, total=3)
    assert fourth.trial_number == 3
    end(study, third, TrialState.PRUNED)
    end(study, fourth, TrialState.COMPLETE)
    assert claim(study, total=3) == Done(finished=3)
    assert isinstance(claim(study, total=4), Lease)


def test_no_total_is_no_work(study: StudyHandle) -> None:
    assert claim(study, total=0) == Done(finished=0)


def test_queued_trials_come_first(study: StudyHandle) -> None:
    study.study.enqueue_trial({"x": 0.25})
    lease = take(study)
    assert sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1)) == 0.25
    assert [trial.number for trial in study.study.trials] == [lease.trial_number]


def test_a_queued_trial_takes_a_slot(study: StudyHandle) -> None:
    take(study, total=1)
    study.study.enqueue_trial({"x": 0.25})
    assert claim(study, total=1) == Wait(running=1)


def test_a_lease_that_ran_out(study: StudyHandle) -> None:
    late = take(study, total=1, seconds=SHORT, worker=FAR)
    assert claim(study, total=1) == Wait(running=1)
    time.sleep(SHORT)
    lease = take(study, total=1)
    assert (lease.trial_id, lease.token, lease.attempt) == (late.trial_id, 2, 2)
    with pytest.raises(LostLeaseError):
        end(study, late, TrialState.COMPLETE)
    end(study, lease, TrialState.COMPLETE)
    assert claim(study, total=1) == Done(finished=1)


def test_a_lease_that_ran_out_unclaimed_is_good(study: StudyHandle) -> None:
    late = take(study, total=1, seconds=SHORT)
    time.sleep(SHORT)
    end(study, late, TrialState.COMPLETE)
    assert claim(study, total=1) == Done(finished=1)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_holder_that_comes_back_at_the_last_moment(db: Database, study: StudyHandle) -> None:
    """On SQLite the lock that a claim holds keeps renewals out; here it does not."""
    lease = take(study, total=1, seconds=SHORT, worker=FAR)
    time.sleep(SHORT)

    def come_back(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE leases SET token"):
            assert renew(db, lease)

    event.listen(db.engine, "before_cursor_execute", come_back)
    assert claim(study, total=1) == Wait(running=1)
    end(study, lease, TrialState.COMPLETE)


def test_a_released_trial_is_claimed_at_once(db: Database, study: StudyHandle) -> None:
    given_up = take(study, total=1)
    release(db, given_up)
    lease = take(study, total=1)
    assert (lease.trial_id, lease.token, lease.attempt) == (given_up.trial_id, 2, 1)
    with pytest.raises(LostLeaseError):
        end(study, given_up, TrialState.COMPLETE)
    release(db, given_up)  # late, and without effect on the new holder
    end(study, lease, TrialState.COMPLETE)


def test_a_dead_workers_trial_is_claimed_at_once(study: StudyHandle) -> None:
    lost = claim(study, total=1, worker=ended_worker())
    lease = take(study, total=1)
    assert isinstance(lost, Lease)
    assert (lease.trial_id, lease.attempt) == (lost.trial_id, 2)


def test_a_worker_of_another_host_has_its_time(study: StudyHandle) -> None:
    claim(study, total=1, worker="far-" + ended_worker(), lease_seconds=SHORT)
    assert claim(study, total=1) == Wait(running=1)
    time.sleep(SHORT)
    assert take(study, total=1).attempt == 2


def run_out(db: Database) -> None:
    """As if all leases had run out: the host slept, or its clock was set."""
    with db.engine.begin() as connection:
        connection.execute(update(leases).values(expires_at=leases.c.expires_at - 3600))


def test_a_living_worker_of_this_host_may_renew_what_ran_out(
    db: Database, study: StudyHandle, report: Callable[..., None]
) -> None:
    lease = take(study, total=1)
    for epoch in (1, 2):
        run_out(db)
        assert status(study).abandoned == ()
        assert claim(study, total=1) == Wait(running=1)
        assert claim(study, total=1) == Wait(running=1)
        assert renew(db, lease)
        report(db, lease, epoch)
    end(study, lease, TrialState.COMPLETE)


def test_a_living_worker_that_hangs_has_one_more_term(db: Database, study: StudyHandle) -> None:
    hung = take(study, total=1)
    run_out(db)
    assert claim(study, total=1, lease_seconds=SHORT) == Wait(running=1)
    time.sleep(SHORT)
    assert status(study).abandoned == (0,)
    lease = take(study, total=1)
    assert (lease.trial_id, lease.attempt) == (hung.trial_id, 2)
    assert not renew(db, hung)
    run_out(db)  # the new holder has its own
    assert claim(study, total=1) == Wait(running=1)


def test_abandoned_trials_come_before_new_ones(db: Database, study: StudyHandle) -> None:
    first, second, _third = (take(study) for _ in range(3))
    release(db, second)
    release(db, first)
    assert [take(study).trial_number for _ in range(3)] == [0, 1, 3]


def test_abandoned_trials_beyond_the_total_are_left(db: Database, study: StudyHandle) -> None:
    leases = [take(study, total=4) for _ in range(4)]
    for lease in leases:
        release(db, lease)
    end(study, take(study, total=2), TrialState.COMPLETE)
    end(study, take(study, total=2), TrialState.COMPLETE)
    assert claim(study, total=2) == Done(finished=2)


def test_a_trial_that_kills_its_workers(study: StudyHandle) -> None:
    dead = ended_worker()
    for attempt in (1, 2, 3):
        lease = claim(study, total=1, worker=dead)
        assert isinstance(lease, Lease)
        assert (lease.trial_number, lease.attempt, lease.exhausted) == (0, attempt, False)
    lease = take(study, total=1)
    assert (lease.trial_number, lease.exhausted) == (0, True)
    end(study, lease, TrialState.FAIL)
    assert take(study, total=1).trial_number == 1


def test_workers_that_vanish_after_a_new_epoch_each_do_not_count(
    db: Database, study: StudyHandle, report: Callable[..., None]
) -> None:
    dead = ended_worker()
    for epoch in range(6):
        lease = take(study, total=1, worker=dead)
        assert (lease.trial_number, lease.attempt) == (0, min(epoch, 1) + 1)
        for known in range(epoch + 1):  # a trial that starts over reports the same ones again
            report(db, lease, known)
    for attempt in (2, 3):
        lease = take(study, total=1, worker=dead)
        assert (lease.attempt, lease.exhausted) == (attempt, False)
        report(db, lease, 0)  # nothing new
    assert take(study, total=1).exhausted


def test_a_trial_of_something_else(study: StudyHandle) -> None:
    stranger = study.study.ask()
    assert claim(study, total=1, lease_seconds=SHORT) == Wait(running=1)
    time.sleep(SHORT)
    lease = take(study, total=1)
    assert (lease.trial_number, lease.attempt) == (stranger.number, 2)


def test_a_trial_told_by_something_else(study: StudyHandle) -> None:
    lease = take(study, total=1)
    study.study.tell(lease.trial_number, 0.5)
    assert claim(study, total=1) == Done(finished=1)
    with pytest.raises(LostLeaseError):
        end(study, lease, TrialState.COMPLETE)
    assert study.study.trials[0].value == 0.5


def test_studies_do_not_mix(db: Database, study: StudyHandle) -> None:
    other = StudyHandle.of(db, optuna.create_study(study_name="other", storage=db.optuna))
    release(db, take(study, total=1))
    assert take(other, total=1).study_id == other.study_id
    assert claim(other, total=1) == Wait(running=1)
    assert take(study, total=1).token == 2


def test_a_taken_over_trial_can_be_sampled(db: Database, study: StudyHandle) -> None:
    """By a process whose Optuna has not seen the trial before."""
    release(db, take(study))
    loaded = optuna.load_study(study_name="study", storage=db.optuna, sampler=study.study.sampler)
    fresh = StudyHandle.of(db, loaded)
    lease = take(fresh)
    x = sample(fresh, lease, lambda trial: trial.suggest_float("x", 0, 1))
    assert study.study.trials[0].params == {"x": x}


def test_a_deleted_study(db: Database, study: StudyHandle) -> None:
    db.optuna.delete_study(study.study_id)
    with pytest.raises((StorageError, KeyError)):
        claim(study, total=1)


def test_a_worker_of_a_deleted_study_writes_nothing_into_the_next(
    db: Database, study: StudyHandle, report: Callable[..., None]
) -> None:
    """SQLite gives its ids to the next study and trial; trial 0's first token is 1 in both."""
    old = take(study)
    db.optuna.delete_study(study.study_id)
    made = optuna.create_study(study_name="study", storage=db.optuna)
    new_study = StudyHandle.of(db, made)
    new = take(new_study)
    if db.engine.dialect.name == "sqlite":
        assert (new.study_id, new.trial_id, new.token) == (old.study_id, old.trial_id, old.token)
    with pytest.raises(LostLeaseError):
        report(db, old, 1)
    with pytest.raises(LostLeaseError):
        sample(study, old, lambda trial: trial.suggest_float("x", 0, 1))
    with pytest.raises(StudyGoneError):
        end(study, old, TrialState.COMPLETE)
    assert not renew(db, old)
    release(db, old)
    with pytest.raises((StudyGoneError, KeyError)):
        claim(study, total=10)
    assert status(new_study).running[0].epoch is None
    (trial,) = db.optuna.get_all_trials(new_study.study_id)
    assert (trial.state, trial.params) == (TrialState.RUNNING, {})
    assert renew(db, new)
    end(new_study, new, TrialState.COMPLETE)


def test_numbers_stay_dense_with_the_sampler_that_reads_all(
    db: Database, report: Callable[..., None]
) -> None:
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=3, constant_liar=True)
    study = StudyHandle.of(db, optuna.create_study(storage=db.optuna, sampler=sampler))
    held = [take(study, total=8) for _ in range(3)]
    values = []
    while not isinstance(claimed := claim(study, total=8), Wait | Done):
        held.append(claimed)
        lease = held.pop(0)
        x = sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1))
        report(db, lease, 1, x)
        finish(study, lease, state=TrialState.COMPLETE, value=x)
        values.append(x)
    assert [trial.number for trial in study.study.trials] == list(range(8))
    assert len(set(values)) == len(values) == 5
    assert study.study.best_value == min(values) < math.inf
    assert os.getpid() == int(held[0].worker.split(":")[1])
