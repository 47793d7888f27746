"""What `--status` reads from the tables, on both kinds of database."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy import update

from data.examples import DatasetInfo
from search.spec.config import StudySpec
from search.spec.space import suggest
from search.store.claims import claim
from search.store.database import Database
from search.store.leases import Lease, finish, release, sample
from search.store.records import record_epoch
from search.store.schema import REASON, leases
from search.store.studies import StudyHandle, create_study
from search.terminal.status import next_commands, quick_status
from tests.search.long_studies import INFO
from tests.search.running.made_up import FedTraining
from tests.search.worker_processes import report

SPEC = StudySpec(dataset="digits", trials=20, epochs=4)
URL = "postgresql://me:***@host/db?sslmode=require"


def begin(study: StudyHandle, worker: str) -> Lease:
    lease = claim(study, total=99, worker=worker)
    assert isinstance(lease, Lease)
    sample(study, lease, lambda trial: suggest(trial, SPEC))
    return lease


def flat(text: str | None) -> str:
    assert text is not None
    return " ".join(text.split())


def test_it_says_which_worker_trains_what_and_what_was_found(db: Database) -> None:
    info: DatasetInfo = replace(INFO, title="Digits\x1b[2J")
    study = create_study(db, "s", SPEC, info, validation_count=287)
    assert "Study s: 0 of 20 trials finished (0 complete)" in flat(quick_status(db.url, "s"))
    host = socket.gethostname()
    ours, gone = f"{host}:{os.getpid()}:1:2", f"{host}:99999999:1:2"
    held, silent, left, dead, failed, good, better, aside = (
        begin(study, worker)
        for worker in ("red:12:1:2", "blue:7:1:2", ours, gone, ours, ours, ours, ours)
    )
    for lease, losses in ((held, [0.9, 0.5]), (left, [0.8]), (good, [0.7, 0.4]), (better, [0.3])):
        for epoch, loss in enumerate(losses):
            report(db, lease, epoch + (lease is better), loss)
    release(db, left)
    finish(study, failed, state=TrialState.FAIL, attributes={REASON: "out of memory\x1b[2J"})
    row = FedTraining([]).report(2, 0.25)  # with the same value as epoch 1, but a lower raw loss
    record_epoch(db, better, replace(row, validation_error=0.2), 0.3)
    report(db, better, 3, 0.35)
    for lease, loss in ((good, 0.4), (better, 0.3)):
        finish(study, lease, state=TrialState.COMPLETE, value=loss)
    finish(study, aside, state=TrialState.RUNNING)
    text = quick_status(db.url)
    told = flat(text)
    assert (
        "2 of 20 trials finished (2 complete, 1 failed, 2 running, 1 paused, 2 interrupted)" in told
    )
    reached = "epoch 1 of 4, calibrated validation loss 0.5000"
    assert f"  trial {held.trial_number}, {reached}, on red:12\n" in (text or "")
    assert f"trial {silent.trial_number}, nothing reported yet, on blue:7" in told
    interrupted = told.index("Interrupted, for the next worker to resume:")
    for lease in (left, dead):
        assert told.index(f"trial {lease.trial_number}, ") > interrupted
    assert f"Failed: trial {failed.trial_number}: out of memory" in told
    best = f"Best: trial {better.trial_number}, calibrated validation loss 0.3000, accuracy 80.00 %"
    assert best in told
    assert told[told.index(best) :].partition("Next:")[0].endswith(", epoch 2 ")
    assert "left, give or take" in told
    assert "search.finalize --study s" in told
    assert "\x1b" not in told


def test_what_is_running_is_told_by_the_clock_of_the_database(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = create_study(db, "s", SPEC, INFO, validation_count=287)
    begin(study, "red:12:1:2")
    for hours in (-1, 1):
        ours = time.time() + 3600 * hours
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda ours=ours: ours)
            assert "1 running)" in flat(quick_status(db.url, "s"))
    with db.engine.begin() as connection:
        connection.execute(update(leases).values(expires_at=leases.c.expires_at - 3600))
    assert "1 interrupted)" in flat(quick_status(db.url, "s"))


def test_paused_trials_and_the_time_that_a_budget_leaves(db: Database) -> None:
    spec = replace(SPEC, pruner="promotion", budget=0.5)
    study = create_study(db, "s", spec, INFO, validation_count=287)
    lease = begin(study, "red:12:1:2")
    for epoch in (0, 1, 2):  # of a second each
        report(db, lease, epoch, 0.5)
    finish(study, lease, state=TrialState.RUNNING)
    told = flat(quick_status(db.url))
    assert "0 of 20 trials finished (0 complete, 1 paused)" in told
    assert "about 57 s left" in told  # 38 of 40 epochs, of 1.5 s each
    assert "Interrupted" not in told


def test_unreadable_studies_are_left_to_code_that_can_say_why(db: Database, tmp_path: Path) -> None:
    study = create_study(db, "s", SPEC, INFO, validation_count=287)
    assert quick_status(db.url, "t") is None
    assert quick_status(db.url) is None  # none has begun
    study.study.set_user_attr("dataset", 7)
    assert quick_status(db.url, "s") is None
    assert quick_status(f"sqlite:///{tmp_path}/none.db") is None
    (tmp_path / "text.db").write_text("text" * 1000)
    assert quick_status(f"sqlite:///{tmp_path}/text.db") is None
    assert not (tmp_path / "none.db").exists()


def test_next_commands_fit_the_storage() -> None:
    assert next_commands("fashion", "sqlite:///studies.db", 44, True) == [
        "python -m search.study --study fashion   # the other 44 trials",
        "python -m search.report --study fashion",
        "python -m search.finalize --study fashion",
        "python -m search.dashboard",
    ]
    assert next_commands("s", "sqlite:///studies.db", 0, True, evaluated=True) == [
        "python -m search.report --study s",  # finalize again would be another evaluation
        "python -m search.dashboard",
    ]
    stored = "--storage 'postgresql://me@host/db?sslmode=require'"
    assert next_commands("fashion", URL, 0, False) == [f"python -m search.dashboard {stored}"]
