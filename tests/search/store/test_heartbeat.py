import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from search.store.claims import Wait, claim
from search.store.database import Database
from search.store.leases import Heartbeat, Lease, release
from search.store.reading import status
from search.store.schema import leases
from search.store.studies import StudyHandle

SECONDS = 0.5


def take(study: StudyHandle, total: int = 1) -> Lease:
    # Of another host: one of this host that lives would have more than its lease.
    claimed = claim(study, total=total, lease_seconds=SECONDS, worker="far:1:1:scope")
    assert isinstance(claimed, Lease)
    return claimed


def test_keeps_leases_while_the_block_runs(db: Database, study: StudyHandle) -> None:
    first, second = take(study, 2), take(study, 2)
    with Heartbeat(db) as heartbeat, heartbeat.keep(first):
        with heartbeat.keep(second):
            time.sleep(2 * SECONDS)
            assert claim(study, total=2) == Wait(running=2)
        time.sleep(1.5 * SECONDS)
        assert take(study, 2).trial_id == second.trial_id
        assert not heartbeat.lost(first)


def test_renews_at_once_when_the_host_wakes(
    db: Database, study: StudyHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claim(study, total=1, worker="far:1:1:scope")  # for a minute
    assert isinstance(claimed, Lease)
    with Heartbeat(db) as heartbeat, heartbeat.keep(claimed):
        with db.engine.begin() as connection:
            connection.execute(update(leases).values(expires_at=0))
        monkeypatch.setattr(time, "clock_gettime", lambda _clock: time.monotonic() + 1e9)
        deadline = time.monotonic() + 5
        while status(study).abandoned:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_tells_a_lost_lease(db: Database, study: StudyHandle) -> None:
    lease = take(study)
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        release(db, lease)
        taken = take(study)
        deadline = time.monotonic() + 5
        while not heartbeat.lost(lease):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not heartbeat.lost(taken)
    assert not heartbeat.lost(lease)  # forgotten at the end of the block


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_rides_out_an_outage(
    db: Database, study: StudyHandle, postgres: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lease = take(study)
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        postgres.stop()
        time.sleep(SECONDS)
        postgres.start()
        time.sleep(2.0)
        assert not heartbeat.lost(lease)
        assert claim(study, total=1) == Wait(running=1)
    assert "cannot renew the lease of trial 0" in caplog.text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_ends_while_the_database_is_locked(
    db: Database, study: StudyHandle, tmp_path: Path
) -> None:
    lease = take(study)
    other = sqlite3.connect(tmp_path / "studies.db", isolation_level=None)
    with Heartbeat(db) as heartbeat, heartbeat.keep(lease):
        other.execute("BEGIN IMMEDIATE")
        time.sleep(SECONDS)
        started = time.monotonic()
    assert time.monotonic() - started < 2.0
    other.close()
    db.patience_seconds = 0.0  # so that its thread, which is still waiting, leaves the database
