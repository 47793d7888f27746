from collections.abc import Callable

import optuna
from optuna.trial import TrialState

from search.store.claims import claim
from search.store.leases import Lease, finish, release
from search.store.status import RunningTrial, Status, status
from search.store.storage import Database


def take(db: Database, study: optuna.Study, worker: str | None = None) -> Lease:
    claimed = claim(db, study, total=100, worker=worker)
    assert isinstance(claimed, Lease)
    return claimed


def test_an_empty_study(db: Database, study: optuna.Study) -> None:
    assert status(db, study) == Status(
        running=(), abandoned=(), complete=0, pruned=0, failed=0, waiting=0
    )


def test_every_kind_of_trial(
    db: Database, study: optuna.Study, report: Callable[..., None]
) -> None:
    complete, pruned, failed, kept, given_up, _silent = (
        take(db, study, worker=f"host-{n}:1:2:3") for n in range(6)
    )
    finish(db, complete, study, state=TrialState.COMPLETE, value=1.0)
    finish(db, pruned, study, state=TrialState.PRUNED)
    finish(db, failed, study, state=TrialState.FAIL)
    report(db, kept, 0)
    report(db, kept, 1)
    release(db, given_up)
    study.enqueue_trial({"x": 1})
    study.enqueue_trial({"x": 2})
    stranger = study.ask()  # one of the two, by plain Optuna
    assert status(db, study) == Status(
        running=(
            RunningTrial(trial_number=3, worker="host-3:1:2:3", epoch=1, attempt=1),
            RunningTrial(trial_number=5, worker="host-5:1:2:3", epoch=None, attempt=1),
            RunningTrial(trial_number=stranger.number, worker="unknown", epoch=None, attempt=1),
        ),
        abandoned=(4,),
        complete=1,
        pruned=1,
        failed=1,
        waiting=1,
    )
