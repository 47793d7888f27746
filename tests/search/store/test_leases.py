"""What a lease allows, for how long, and what a late holder cannot do."""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError

from search.store import StudyGoneError
from search.store.claims import claim
from search.store.database import Database, read
from search.store.leases import Heartbeat, Lease, LostLeaseError, finish, release, renew, sample
from search.store.records import epochs_of
from search.store.schema import leases
from search.store.studies import StudyHandle
from tests.search.worker_processes import report
from tests.search.workplaces import take


def take_over(db: Database, study: StudyHandle, lease: Lease) -> Lease:
    """The lease of a new holder, as after a stop that lasted too long."""
    release(db, lease)
    return take(study, total=1)


def test_finish(db: Database, study: StudyHandle, lease: Lease) -> None:
    finish(study, lease, state=TrialState.COMPLETE, value=0.5, attributes={"a": 1, "b": "text"})
    finish(study, lease, state=TrialState.COMPLETE, value=0.7)  # a second call changes nothing
    pruned = take(study)
    report(db, pruned, 1, 0.25)
    report(db, pruned, 2, 0.75)
    finish(study, pruned, state=TrialState.PRUNED)  # its value is that of the last report
    first, second = study.study.trials
    assert (first.state, first.value) == (TrialState.COMPLETE, 0.5)
    assert first.user_attrs == {"a": 1, "b": "text"}
    assert not renew(db, lease)
    assert (second.state, second.value) == (TrialState.PRUNED, 0.75)


def test_finish_refuses_a_value_that_does_not_fit(study: StudyHandle, lease: Lease) -> None:
    complete = TrialState.COMPLETE
    for state, value in ((complete, float("nan")), (complete, None), (TrialState.FAIL, 1.0)):
        with pytest.raises(ValueError, match=r"[Vv]alue"):
            finish(study, lease, state=state, value=value, attributes={"a": 1})
    assert study.study.trials[0].state == TrialState.RUNNING
    assert study.study.trials[0].user_attrs == {}  # all or nothing
    finish(study, lease, state=TrialState.FAIL)  # it is still ours


@pytest.mark.parametrize("was_paused", [False, True])
def test_a_late_writer_writes_nothing(
    db: Database, study: StudyHandle, lease: Lease, was_paused: bool
) -> None:
    report(db, lease, 1, 0.5)
    if was_paused:
        finish(study, lease, state=TrialState.RUNNING)
    new = take(study, total=1) if was_paused else take_over(db, study, lease)
    with pytest.raises(LostLeaseError, match="trial 0 has ended, or its lease is lost"):
        report(db, lease, 2, 0.1)
    with pytest.raises(LostLeaseError):
        sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1))
    for state in (TrialState.RUNNING, TrialState.FAIL):
        with pytest.raises(LostLeaseError):
            finish(study, lease, state=state, attributes={"reason": "late"})
    assert not renew(db, lease)
    release(db, lease)
    (trial,) = study.study.trials
    assert (trial.state, trial.params, trial.user_attrs) == (TrialState.RUNNING, {}, {})
    assert trial.intermediate_values == {1: 0.5}
    assert len(epochs_of(db, study.study_id)) == 1
    report(db, new, 2, 0.2)
    finish(study, new, state=TrialState.COMPLETE, value=0.2)
    with pytest.raises(LostLeaseError):  # it is not mistaken for the new holder's
        finish(study, lease, state=TrialState.COMPLETE, value=0.1)


def test_renew_sees_that_the_trial_was_ended_elsewhere(
    db: Database, study: StudyHandle, lease: Lease
) -> None:
    assert renew(db, lease)
    study.study.tell(lease.trial_number, state=TrialState.FAIL)
    assert not renew(db, lease)


def test_sample_stores_all_or_nothing_and_keeps_what_is_stored(
    db: Database, study: StudyHandle, lease: Lease
) -> None:
    def broken(trial: optuna.Trial) -> None:
        trial.suggest_float("x", 0, 1)
        raise RuntimeError("no such architecture")

    def first(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1)

    def both(trial: optuna.Trial) -> tuple[float, int]:
        return trial.suggest_float("x", 0, 1), trial.suggest_int("n", 0, 1000)

    with pytest.raises(RuntimeError, match="no such architecture"):
        sample(study, lease, broken)
    assert study.study.trials[0].params == {}
    x = sample(study, lease, first)
    assert sample(study, lease, first) == x
    again = sample(study, take_over(db, study, lease), both)
    assert again[0] == x
    assert study.study.trials[0].params == {"x": x, "n": again[1]}


SECONDS = 0.5
SAFE = 3.0  # seconds of a lease that a busy machine renews in time


def take_short(study: StudyHandle, total: int = 1, seconds: float = SECONDS) -> Lease:
    # On another host: a living worker of this host would be granted more than its lease.
    return take(study, total=total, lease_seconds=seconds, worker="far:1:1:scope")


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def expiry(db: Database, lease: Lease) -> float:
    of_trial = select(leases.c.expires_at).where(leases.c.trial_id == lease.trial_id)
    return read(db, lambda connection: connection.execute(of_trial).scalar_one())


def test_keeps_leases_while_the_block_runs(db: Database, study: StudyHandle) -> None:
    first, second = take_short(study, 2, SAFE), take_short(study, 2, SAFE)
    ends = expiry(db, second)
    with Heartbeat(db) as heartbeat, heartbeat.keep(first):
        with heartbeat.keep(second):
            wait_until(lambda: time.time() > ends)
            assert claim(study, total=2) == "wait"
        wait_until(lambda: time.time() > expiry(db, second) + 0.1)
        assert take_short(study, 2).trial_id == second.trial_id
        assert renew(db, first)


def test_renews_at_once_when_the_host_wakes(
    db: Database, study: StudyHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = take(study, worker="far:1:1:scope")  # for a minute
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        with db.engine.begin() as connection:
            connection.execute(update(leases).values(expires_at=0))
        monkeypatch.setattr("search.store.leases._now", lambda: time.monotonic() + 1e9)
        wait_until(lambda: expiry(db, lease) != 0, 15)  # it would be due after 20 s


def test_a_lost_lease_is_not_taken_back(db: Database, study: StudyHandle) -> None:
    lease = take_short(study)
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        taken = take_over(db, study, lease)
        time.sleep(SECONDS)
        report(db, taken, 1)
        with pytest.raises(LostLeaseError):
            report(db, lease, 2)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_removed_database_is_left_for_the_next_write_to_report(
    db: Database, study: StudyHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lease = take_short(study)
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        (tmp_path / "studies.db").rename(tmp_path / "away.db")
        time.sleep(SECONDS)
        with pytest.raises(StudyGoneError):
            report(db, lease, 1)
    assert caplog.text == ""


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_rides_out_an_outage(
    db: Database, study: StudyHandle, postgres: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lease = take_short(study, seconds=SAFE)
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        postgres.stop()
        time.sleep(SAFE)
        back = time.time()
        postgres.start()
        wait_until(lambda: expiry(db, lease) > back)
        assert claim(study, total=1) == "wait"
    assert "cannot renew the lease of trial 0" in caplog.text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_outage_is_logged_once(
    db: Database, lease: Lease, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left = [True, True, True, False, True, True]  # two outages

    def fail(*_: object) -> bool:
        if left and left.pop():
            raise OperationalError("UPDATE", {}, Exception("connection is bad\nIs it running?"))
        return True

    monkeypatch.setattr("search.store.leases.renew", fail)
    monkeypatch.setattr("search.store.leases._AGAIN_SECONDS", 0.0)
    with Heartbeat(db) as heartbeat, heartbeat.keep(replace(lease, seconds=0.0)):
        wait_until(lambda: not left)
    why = "connection is bad; check the server and the URL; trying again"
    assert caplog.messages == [f"cannot renew the lease of trial 0: {why}"] * 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_connection_closed_during_a_renewal_is_replaced_silently(
    db: Database,
    study: StudyHandle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As when a worker was suspended in the middle of one."""
    monkeypatch.setattr("search.store.leases._AGAIN_SECONDS", 0.0)
    closing_it = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    lease = take_short(study, seconds=SAFE)
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        with db.engine.begin() as holder:
            holder.execute(select(leases).with_for_update())
            deadline = time.monotonic() + 60
            closed: Any = []
            while not closed:
                assert time.monotonic() < deadline
                time.sleep(0.02)
                with db.engine.connect() as other:
                    closed = other.execute(closing_it).all()
        ends = expiry(db, lease)
        wait_until(lambda: expiry(db, lease) > ends)
        assert claim(study, total=1) == "wait"
    assert caplog.text == ""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_ends_while_the_database_is_locked(
    db: Database, study: StudyHandle, tmp_path: Path
) -> None:
    lease = take_short(study)
    other = sqlite3.connect(tmp_path / "studies.db", isolation_level=None)
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        other.execute("BEGIN IMMEDIATE")
        time.sleep(SECONDS)
        started = time.monotonic()
    assert time.monotonic() - started < db.patience_seconds / 5
    other.close()
    db.patience_seconds = 0.0  # so that the heartbeat's thread, which still waits, gives up
