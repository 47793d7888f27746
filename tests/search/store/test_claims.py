"""Who gets which trial: exact totals, nothing lost with its worker, nothing given out twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import Connection, event, update

from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.store import StudyGoneError
from search.store.claims import Nothing, claim, exists, running_trials, this_worker
from search.store.database import Database, transaction
from search.store.leases import Lease, LostLeaseError, drop, finish, release, renew, revive, sample
from search.store.opening import open_database
from search.store.schema import SPEC, STOPPED, leases
from search.store.studies import StudyHandle
from tests.search.worker_processes import report
from tests.search.workplaces import take

ROOT = Path(__file__).parents[3]
SECONDS = 7200.0  # of a lease that is to expire; no test takes as long
FAR = "far:1:1:scope"  # a worker on another host, of which only the lease is known


def run_out(db: Database, seconds: float = 3600.0) -> None:
    """Let so much of all leases pass, as if the host had slept or its clock had been set."""
    with db.engine.begin() as connection:
        connection.execute(update(leases).values(expires_at=leases.c.expires_at - seconds))


def end(study: StudyHandle, lease: Lease, state: TrialState) -> None:
    value = 1.0 if state == TrialState.COMPLETE else None
    finish(study, lease, state=state, value=value)


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process on this host, and its name."""
    program = "from search.store.claims import *; print(this_worker(), flush=True); input()"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **pipes) as process:
        yield process, process.stdout.readline().strip()  # type: ignore[union-attr]
        process.kill()


@pytest.fixture
def dead() -> str:
    """The name of a process on this host that has ended."""
    host, _, start, scope = this_worker().split(":")
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return f"{host}:{process.pid}:{start}:{scope}"


def test_slots_are_counted(study: StudyHandle) -> None:
    assert claim(study, total=0) == "done"
    first, second, third = (take(study, total=3) for _ in range(3))
    assert (first.trial_number, first.attempt) == (0, 1)
    assert (first.worker, first.exhausted) == (this_worker(), False)
    assert claim(study, total=3) == "wait"
    end(study, first, TrialState.COMPLETE)
    assert claim(study, total=3) == "wait"
    end(study, second, TrialState.FAIL)  # does not count
    fourth = take(study, total=3)
    assert fourth.trial_number == 3
    end(study, third, TrialState.PRUNED)
    end(study, fourth, TrialState.COMPLETE)
    assert claim(study, total=3) == "done"
    take(study, total=4)


def test_totals_are_compared_with_the_stored_specification(study: StudyHandle) -> None:
    arms = (Arm(name="plain"), Arm(name="dropout", values={"dropout": 0.1}))
    stored = StudySpec(dataset="digits", arms=arms, repeats=2).to_dict()
    study.study.set_user_attr(SPEC, {**stored, "trials": 50})  # it follows from arms and repeats
    assert claim(study, total=50, budget=0.3) == "changed"
    assert claim(study, total=4, budget=0.2) == "changed"
    take(study, total=4, budget=0.3)


def test_queued_trials_come_first_and_take_a_slot(study: StudyHandle) -> None:
    for x in (0.25, 0.75):
        study.study.enqueue_trial({"x": x})
    lease = take(study, total=1)
    assert sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1)) == 0.25
    assert (lease.trial_number, claim(study, total=1)) == (0, "wait")


def test_another_worker_takes_over_an_expired_lease(db: Database, study: StudyHandle) -> None:
    late = take(study, total=1, lease_seconds=SECONDS, worker=FAR)
    for _ in range(2):
        assert claim(study, total=1) == "wait"
        run_out(db, SECONDS / 2 + 1)
    lease = take(study, total=1)
    assert (lease.trial_id, lease.attempt) == (late.trial_id, 2)
    with pytest.raises(LostLeaseError):
        end(study, late, TrialState.COMPLETE)
    end(study, lease, TrialState.COMPLETE)
    assert claim(study, total=1) == "done"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_holder_that_renews_at_the_last_moment(db: Database, study: StudyHandle) -> None:
    """On SQLite the lock that a claim holds keeps renewals out; here it does not."""
    lease = take(study, total=1, lease_seconds=SECONDS, worker=FAR)
    run_out(db, SECONDS + 1)

    def come_back(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("UPDATE leases SET token"):
            assert renew(db, lease)

    event.listen(db.engine, "before_cursor_execute", come_back)
    assert claim(study, total=1) == "wait"
    end(study, lease, TrialState.COMPLETE)


def test_released_trials_are_claimed_at_once_before_new_ones(
    db: Database, study: StudyHandle
) -> None:
    first, second, third = (take(study) for _ in range(3))
    release(db, second)
    release(db, first)
    again = [take(study) for _ in range(3)]
    assert [(it.trial_number, it.attempt) for it in again] == [*((0, 1), (1, 1), (3, 1))]
    with pytest.raises(LostLeaseError):
        end(study, first, TrialState.COMPLETE)
    release(db, first)  # late, and without effect on the new holder
    for lease in (third, again[0]):
        end(study, lease, TrialState.COMPLETE)
    release(db, again[1])
    assert claim(study, total=2) == "done"  # trials beyond the total are not claimed


@pytest.mark.parametrize("proc", [True, False])
def test_a_living_worker_of_this_host_may_renew_an_expired_lease_once(
    db: Database, study: StudyHandle, monkeypatch: pytest.MonkeyPatch, proc: bool
) -> None:
    if not proc:  # as on macOS, where nothing is known of a process that has ended
        monkeypatch.setattr("search.store.claims.this_host", lambda: ("mac", "?"))
        assert exists("mac:999999999:1:?") is None
    lease = take(study, total=1)
    for epoch in (1, 2):
        run_out(db)
        assert claim(study, total=1) == "wait"
        assert claim(study, total=1) == "wait"
        assert renew(db, lease)
        report(db, lease, epoch)
    run_out(db)
    assert claim(study, total=1, lease_seconds=SECONDS) == "wait"
    run_out(db, SECONDS + 1)
    new = take(study, total=1)
    assert (new.trial_id, new.attempt) == (lease.trial_id, 2)
    assert not renew(db, lease)
    run_out(db)
    assert claim(study, total=1) == "wait"  # so may the new holder


@pytest.mark.parametrize(("then", "granted"), [("still flat", "done"), (None, "wait")])
def test_a_study_ends_only_if_it_is_flat_when_it_ends(
    study: StudyHandle, then: str | None, granted: str
) -> None:
    """Another start may change the setting after a worker has looked."""
    finish(study, take(study), state=TrialState.RUNNING)
    answers = iter(["flat", then])
    options: dict[str, Any] = {"choose": lambda _: 0, "flat": lambda _: next(answers)}
    assert claim(study, total=2, **options) == granted
    state = TrialState.RUNNING if then is None else TrialState.PRUNED
    assert study.study.trials[0].state == state
    assert study.attributes.get(STOPPED) == (then and "flat")


def test_a_trial_that_kills_its_workers(study: StudyHandle, dead: str) -> None:
    for attempt in (1, 2, 3):  # claimed at once
        lease = take(study, total=1, worker=dead)
        assert (lease.trial_number, lease.attempt, lease.exhausted) == (0, attempt, False)
    lease = take(study, total=1)
    assert (lease.trial_number, lease.exhausted) == (0, True)
    end(study, lease, TrialState.FAIL)
    assert take(study, total=1).trial_number == 1


def test_workers_that_vanish_after_a_new_epoch_each_do_not_count(
    db: Database, study: StudyHandle, dead: str
) -> None:
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


def test_trials_begun_or_ended_by_another_program(db: Database, study: StudyHandle) -> None:
    stranger = study.study.ask()
    assert claim(study, total=1, lease_seconds=SECONDS) == "wait"
    run_out(db, SECONDS + 1)
    lease = take(study, total=1)
    assert (lease.trial_number, lease.attempt) == (stranger.number, 2)
    study.study.tell(lease.trial_number, 0.5)
    assert claim(study, total=1) == "done"
    with pytest.raises(LostLeaseError):
        end(study, lease, TrialState.COMPLETE)
    assert study.study.trials[0].value == 0.5


def test_studies_do_not_mix(db: Database, study: StudyHandle) -> None:
    other = StudyHandle.of(db, optuna.create_study(study_name="other", storage=db.optuna))
    release(db, take(study, total=1))
    assert take(other, total=1).study_id == other.study_id
    assert claim(other, total=1) == "wait"
    assert take(study, total=1).trial_number == 0


def test_a_worker_of_a_deleted_study_writes_nothing_into_the_next(
    db: Database, study: StudyHandle
) -> None:
    """SQLite reuses its ids for the next study and trial; trial 0's first token is 1 in both."""
    old = take(study)
    db.optuna.delete_study(study.study_id)
    new_study = StudyHandle.of(db, optuna.create_study(study_name="study", storage=db.optuna))
    new = take(new_study)
    if db.engine.dialect.name == "sqlite":
        assert (new.study_id, new.trial_id) == (old.study_id, old.trial_id)
    with pytest.raises(LostLeaseError):
        report(db, old, 1)
    with pytest.raises(LostLeaseError):
        sample(study, old, lambda trial: trial.suggest_float("x", 0, 1))
    with pytest.raises(StudyGoneError):
        end(study, old, TrialState.COMPLETE)
    assert not renew(db, old)
    release(db, old)
    with pytest.raises(StudyGoneError):
        claim(study, total=10)
    with transaction(db, read_only=True) as connection:
        (row,) = running_trials(connection, new_study.study_id)
    assert row.claim == new.claim
    assert new_study.study.trials[0].params == {}
    end(new_study, new, TrialState.COMPLETE)


def test_numbers_stay_dense_with_a_sampler_that_reads_all(db: Database) -> None:
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=3, constant_liar=True)
    study = StudyHandle.of(db, optuna.create_study(storage=db.optuna, sampler=sampler))
    held = [take(study, total=8) for _ in range(3)]
    values = []
    while isinstance(claimed := claim(study, total=8), Lease):
        held.append(claimed)
        lease = held.pop(0)
        x = sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1))
        report(db, lease, 1, x)
        finish(study, lease, state=TrialState.COMPLETE, value=x)
        values.append(x)
    assert [trial.number for trial in study.study.trials] == list(range(8))
    assert len(set(values)) == len(values) == 5
    plain = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [plain.ask().suggest_float("x", 0, 1) for _ in values]
    assert values[:3] == drawn[:3]
    assert values[3:] != drawn[3:]  # from then on it depends on the values of the others


def test_living_and_dead_workers(other: tuple[subprocess.Popen[str], str]) -> None:
    process, name = other
    assert name != this_worker()
    assert exists(name) is True
    os.kill(process.pid, signal.SIGSTOP)
    assert exists(name) is True  # stopped, it may still resume
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert exists(name) is False  # a zombie already
    process.wait()
    assert exists(name) is False
    host, pid, start, scope = this_worker().split(":")
    assert exists(f"{host}:{pid}:{int(start) - 1}:{scope}") is False  # another process with its pid


@pytest.mark.parametrize("pid", ["x", "-1", "", "9" * 30, "../1", "1 ", "\u0661"])
def test_nothing_is_known_of_other_hosts_and_invalid_names(pid: str) -> None:
    """Anyone who can write to the database can write any name."""
    host, _, start, scope = this_worker().split(":")
    assert exists(f"{host}:{pid}:{start}:{scope}") is None
    assert exists(f"{host}:999999999:{start}:{scope}") is False
    for name in (f"{host}x:999999999:{start}:{scope}", f"{host}:999999999:{start}:{scope}x"):
        assert exists(name) is None
    assert exists("unknown") is None


def pause(study: StudyHandle, lease: Lease) -> None:
    finish(study, lease, state=TrialState.RUNNING, attributes={"epochs": 1})


def test_paused_trials_keep_their_slots_and_end_with_the_study(
    db: Database, study: StudyHandle
) -> None:
    first, second = take(study, total=3), take(study, total=3)
    for lease, loss in ((first, 0.5), (second, 0.25)):
        report(db, lease, 1, loss)
        pause(study, lease)
        pause(study, lease)  # a second call changes nothing
    third = take(study, total=3, choose=lambda _: "new")
    assert third.trial_number == 2
    assert claim(study, total=3, choose=lambda _: "new") == "wait"  # no slot is free
    assert claim(study, total=3, choose=lambda _: None) == "wait"
    again = take(study, total=3, choose=lambda _: 1)
    assert (again.trial_id, again.attempt) == (second.trial_id, 1)
    release(db, again)  # resumed, it is no longer paused: any free worker continues it
    again = take(study, total=3, choose=lambda _: None)
    assert again.trial_id == second.trial_id
    end(study, again, TrialState.COMPLETE)
    end(study, third, TrialState.FAIL)
    fourth = take(study, total=3, choose=lambda _: None)  # it has failed, so a slot is free again
    end(study, fourth, TrialState.COMPLETE)
    assert claim(study, total=3, choose=lambda _: None) == "done"
    assert claim(study, total=3) == "done"
    states = [trial.state.name for trial in study.study.trials]
    assert states == ["PRUNED", "COMPLETE", "FAIL", "COMPLETE"]
    assert study.study.trials[0].value == 0.5


def test_an_abandoned_trial_is_claimed_before_paused_ones_fill_a_lowered_total(
    db: Database, study: StudyHandle
) -> None:
    held = [take(study, total=6) for _ in range(6)]
    for lease in held[:4]:
        report(db, lease, 1)
        pause(study, lease)
    for lease in held[4:]:
        release(db, lease)
    again = take(study, total=1, choose=lambda _: None)
    assert again.trial_number == 4
    assert claim(study, total=1, choose=lambda _: None) == "wait"  # the total holds
    end(study, again, TrialState.COMPLETE)
    assert claim(study, total=1, choose=lambda _: None) == "done"
    states = [trial.state.name for trial in study.study.trials]
    assert states == [*["PRUNED"] * 4, "COMPLETE", "RUNNING"]
    assert take(study, total=6, choose=lambda _: None).trial_number == 5


def test_a_paused_trial_is_claimed_by_only_one_worker(db: Database, study: StudyHandle) -> None:
    """The other worker claims between the first one's choice and its transaction."""
    held = [take(study, total=2) for _ in range(2)]
    for lease in held:
        pause(study, lease)
    faster: list[Lease | Nothing] = []

    def choose(_connection: Connection) -> int:
        if faster:
            return 1
        with closing(open_database(db.engine.url.render_as_string(hide_password=False))) as theirs:
            loaded = optuna.load_study(study_name="study", storage=theirs.optuna)
            faster.append(claim(StudyHandle.of(theirs, loaded), total=2, choose=lambda _: 0))
        return 0

    slower = claim(study, total=2, choose=choose)
    numbers = [lease.trial_number for lease in (*faster, slower) if isinstance(lease, Lease)]
    assert numbers == [0, 1]


def test_trials_paused_when_the_study_ended_are_paused_again(
    db: Database, study: StudyHandle
) -> None:
    held = [take(study, total=3) for _ in range(3)]
    for lease in held:
        report(db, lease, 1)
        pause(study, lease)
    assert drop(study, [1, 7]) == [1]  # for good
    assert claim(study, total=3, choose=lambda _: None) == "done"
    study.study.get_trials()  # as a process that remembers how they ended
    with study.transaction() as connection:
        revive(connection, study.study_id)
    fresh = optuna.load_study(study_name="study", storage=db.optuna).trials
    assert [trial.state.name for trial in fresh] == ["RUNNING", "PRUNED", "RUNNING"]
    assert (fresh[0].values, fresh[0].datetime_complete) == (None, None)
    end(study, take(study, total=3, choose=lambda _: 2), TrialState.COMPLETE)
    assert claim(study, total=3, choose=lambda _: None) == "done"


def test_a_flat_study_ends_once_nobody_trains(db: Database, study: StudyHandle) -> None:
    held, paused, lost = (take(study, total=9) for _ in range(3))
    report(db, paused, 1)
    pause(study, paused)
    release(db, lost)
    rules: dict[str, Any] = {"choose": lambda _: "new", "flat": lambda _: "it is flat"}
    carried_on = take(study, total=9, **rules)
    assert carried_on.trial_number == lost.trial_number
    assert claim(study, total=9, **rules) == "wait"
    assert STOPPED not in study.attributes
    assert study.study.trials[paused.trial_number].state == TrialState.RUNNING
    for lease in (held, carried_on):
        end(study, lease, TrialState.COMPLETE)
    assert claim(study, total=9, **rules) == "done"
    assert study.attributes[STOPPED] == "it is flat"
    assert [it.state.name for it in study.study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
