"""What a free worker reads of a study."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from optuna.trial import TrialState

from search.sampling.chooser import Chooser, Contenders, make_chooser
from search.store.claims import claim
from search.store.database import Database, read, transaction
from search.store.leases import Lease, finish, run_again
from search.store.studies import StudyHandle
from tests.search.long_studies import SPEC, Fill
from tests.search.worker_processes import report


def chooser(study: StudyHandle) -> Chooser:
    made = make_chooser(Contenders(study, replace(SPEC, pruner="promotion")))
    assert made is not None
    return made


def test_what_was_read_of_ended_trials_is_not_read_again(
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
    with transaction(db) as connection:  # as a study that is given more does
        run_again(connection, [lease.trial_id])
    again = read(db, known.contenders)
    assert again == [*before, replace(running, curve={0: 0.5, 1: 0.25})]
    assert again == read(db, chooser(study).contenders)
