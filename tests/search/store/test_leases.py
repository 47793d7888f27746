import time
from collections.abc import Callable

import optuna
import pytest
from optuna.trial import TrialState

from search.store.claims import claim
from search.store.database import Database
from search.store.leases import Lease, LostLeaseError, finish, release, renew, sample
from search.store.records import epochs_of
from search.store.studies import StudyHandle


@pytest.fixture
def lease(study: StudyHandle) -> Lease:
    claimed = claim(study, total=1)
    assert isinstance(claimed, Lease)
    return claimed


def take_over(db: Database, study: StudyHandle, lease: Lease) -> Lease:
    """Another holder, as after a stop that lasted too long."""
    release(db, lease)
    claimed = claim(study, total=1)
    assert isinstance(claimed, Lease)
    return claimed


def test_finish(db: Database, study: StudyHandle, lease: Lease) -> None:
    finish(study, lease, state=TrialState.COMPLETE, value=0.5, attributes={"a": 1, "b": "text"})
    (trial,) = study.study.trials
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.5)
    assert trial.user_attrs == {"a": 1, "b": "text"}
    assert not renew(db, lease)


def test_finish_pruned_takes_the_last_report(
    db: Database, study: StudyHandle, lease: Lease, report: Callable[..., None]
) -> None:
    report(db, lease, 1, 0.25)
    report(db, lease, 2, 0.75)
    finish(study, lease, state=TrialState.PRUNED)
    assert (study.study.trials[0].state, study.study.trials[0].value) == (TrialState.PRUNED, 0.75)


def test_finish_twice_is_finish_once(study: StudyHandle, lease: Lease) -> None:
    finish(study, lease, state=TrialState.COMPLETE, value=0.5)
    finish(study, lease, state=TrialState.COMPLETE, value=0.7)
    assert study.study.trials[0].value == 0.5


@pytest.mark.parametrize(
    ("state", "value"),
    [(TrialState.COMPLETE, float("nan")), (TrialState.COMPLETE, None), (TrialState.FAIL, 1.0)],
)
def test_finish_refuses_a_value_that_does_not_fit(
    study: StudyHandle, lease: Lease, state: TrialState, value: float | None
) -> None:
    with pytest.raises(ValueError, match=r"[Vv]alue"):
        finish(study, lease, state=state, value=value, attributes={"a": 1})
    assert study.study.trials[0].state == TrialState.RUNNING
    assert study.study.trials[0].user_attrs == {}  # all or nothing
    finish(study, lease, state=TrialState.FAIL)  # it is still ours


def test_a_late_writer_writes_nothing(
    db: Database, study: StudyHandle, lease: Lease, report: Callable[..., None]
) -> None:
    report(db, lease, 1, 0.5)
    new = take_over(db, study, lease)
    with pytest.raises(LostLeaseError, match="trial 0 is in other hands"):
        report(db, lease, 2, 0.1)
    with pytest.raises(LostLeaseError):
        sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1))
    with pytest.raises(LostLeaseError):
        finish(study, lease, state=TrialState.FAIL, attributes={"reason": "late"})
    assert not renew(db, lease)
    (trial,) = study.study.trials
    assert (trial.state, trial.params, trial.user_attrs) == (TrialState.RUNNING, {}, {})
    assert trial.intermediate_values == {1: 0.5}
    assert len(epochs_of(db, study.study_id)) == 1
    report(db, new, 2, 0.2)
    finish(study, new, state=TrialState.COMPLETE, value=0.2)


def test_a_late_finish_does_not_pass_for_the_new_holders(
    db: Database, study: StudyHandle, lease: Lease
) -> None:
    new = take_over(db, study, lease)
    finish(study, new, state=TrialState.COMPLETE, value=0.2)
    with pytest.raises(LostLeaseError):
        finish(study, lease, state=TrialState.COMPLETE, value=0.1)


def test_a_released_lease_writes_nothing(
    db: Database, lease: Lease, report: Callable[..., None]
) -> None:
    release(db, lease)
    with pytest.raises(LostLeaseError):
        report(db, lease, 1)


def test_renew_lasts_from_now(db: Database, study: StudyHandle) -> None:
    lease = claim(study, total=1, lease_seconds=0.6, worker="far:1:1:scope")
    assert isinstance(lease, Lease)
    for _ in range(3):
        time.sleep(0.3)
        assert renew(db, lease)
        assert not isinstance(claim(study, total=1), Lease)
    time.sleep(0.7)
    assert isinstance(claim(study, total=1), Lease)


def test_renew_sees_that_the_trial_was_ended_elsewhere(
    db: Database, study: StudyHandle, lease: Lease
) -> None:
    assert renew(db, lease)
    study.study.tell(lease.trial_number, state=TrialState.FAIL)
    assert not renew(db, lease)


def test_sample_keeps_what_is_stored(db: Database, study: StudyHandle, lease: Lease) -> None:
    def first(trial: optuna.Trial) -> float:
        return trial.suggest_float("x", 0, 1)

    def both(trial: optuna.Trial) -> tuple[float, int]:
        return trial.suggest_float("x", 0, 1), trial.suggest_int("n", 0, 1000)

    x = sample(study, lease, first)
    assert sample(study, lease, first) == x
    again = sample(study, take_over(db, study, lease), both)
    assert again[0] == x
    assert study.study.trials[0].params == {"x": x, "n": again[1]}


def test_sample_stores_all_or_nothing(study: StudyHandle, lease: Lease) -> None:
    def broken(trial: optuna.Trial) -> None:
        trial.suggest_float("x", 0, 1)
        raise RuntimeError("no such architecture")

    with pytest.raises(RuntimeError, match="no such architecture"):
        sample(study, lease, broken)
    assert study.study.trials[0].params == {}
    assert sample(study, lease, lambda trial: trial.suggest_float("x", 0, 1)) >= 0
