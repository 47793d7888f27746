from collections.abc import Callable

from optuna.trial import TrialState

from search.store.claims import claim
from search.store.database import Database
from search.store.leases import Lease, finish, release
from search.store.reading import RunningTrial, Status, status
from search.store.studies import StudyHandle


def take(study: StudyHandle, worker: str | None = None) -> Lease:
    claimed = claim(study, total=100, worker=worker)
    assert isinstance(claimed, Lease)
    return claimed


def test_an_empty_study(study: StudyHandle) -> None:
    assert status(study) == Status(
        running=(), abandoned=(), complete=0, pruned=0, failed=0, waiting=0
    )


def test_every_kind_of_trial(db: Database, study: StudyHandle, report: Callable[..., None]) -> None:
    complete, pruned, failed, kept, given_up, _silent = (
        take(study, worker=f"host-{n}:1:2:3") for n in range(6)
    )
    finish(study, complete, state=TrialState.COMPLETE, value=1.0)
    finish(study, pruned, state=TrialState.PRUNED)
    finish(study, failed, state=TrialState.FAIL)
    report(db, kept, 0)
    report(db, kept, 1)
    release(db, given_up)
    study.study.enqueue_trial({"x": 1})
    study.study.enqueue_trial({"x": 2})
    stranger = study.study.ask()  # one of the two, by plain Optuna
    assert status(study) == Status(
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
