"""Giving out trials, so that totals are exact and no trial is lost with its worker.

A trial is claimed in one transaction under a lock on its study: slots are counted, an abandoned
trial is taken over or a new one asked of Optuna, and its lease is written. At no moment does a
trial run without a lease, or count twice; there is no state between asking and holding to die in.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import Trial, TrialState
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Row,
    and_,
    bindparam,
    func,
    insert,
    select,
    update,
)

from search.store.holder import has_died, is_alive, this_worker
from search.store.identity import study_transaction
from search.store.leases import Lease
from search.store.storage import Database, snapshot, with_retry
from search.store.tables import DatabaseClock, leases, trials

LEASE_SECONDS = 60.0
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)  # towards a study's total; failed ones are not
COUNTED_OF_ARMS = (*COUNTED, TrialState.FAIL)  # but in a comparison: an arm that fails is a result


# Built once: SQLAlchemy takes longer to build a statement than to run it.
_running_of_study = (
    select(
        trials.c.trial_id,
        trials.c.number,
        DatabaseClock().label("now"),
        leases.c.token,
        leases.c.abandonments,
        leases.c.worker,
        leases.c.claim,
        leases.c.expires_at,
        leases.c.extended,
    )
    .outerjoin(leases, leases.c.trial_id == trials.c.trial_id)
    .where(trials.c.study_id == bindparam("of_study"), trials.c.state == TrialState.RUNNING)
    .order_by(trials.c.number)
)
_count_of_study = select(func.count()).where(
    trials.c.study_id == bindparam("of_study"),
    trials.c.state.in_(bindparam("counted", expanding=True)),
)
_queued = (
    select(trials.c.trial_id)
    .where(trials.c.study_id == bindparam("of_study"), trials.c.state == TrialState.WAITING)
    .limit(1)
)
_new_lease = insert(leases).values(
    abandonments=0, expires_at=DatabaseClock() + bindparam("duration", type_=Double)
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Others train the last trials; one of those may yet fail or be abandoned."""

    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The study has its total."""

    finished: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Claimant:
    worker: str
    seconds: float
    claim: str


def claim(
    db: Database,
    study: optuna.Study,
    *,
    total: int,
    counted: Sequence[TrialState] = COUNTED,
    worker: str | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> Lease | Wait | Done:
    """Claim a trial: an abandoned one, or else a queued or new one while the total has room.

    Abandoned is a trial that was released, whose lease has run out, or whose holder was a process
    of this host that has ended. Where the lease has run out and its holder lives on this host, both
    may have been asleep, or the clock was set: the lease is extended once, for the holder to renew.
    A trial that something else started in this study (plain Optuna) gets one lease from when it is
    first seen.

    Args:
        total: how many trials of the `counted` states the study is to have.
        worker: a name made by `this_worker`, which is the default.

    Raises:
        StudyGoneError: the study was deleted.
        StorageError: the database stayed away.
    """
    claimant = _Claimant(
        worker=worker or this_worker(), seconds=lease_seconds, claim=uuid.uuid4().hex
    )

    def attempt() -> Lease | Wait | Done:
        with snapshot(db) as connection:
            queued = connection.scalar(_queued, {"of_study": study._study_id}) is not None
        if queued:
            # Optuna reads all trials to find those: it does so now, and not under the lock.
            study.get_trials(deepcopy=False)
        with study_transaction(db, study, hasty=True) as connection:
            return _claim(connection, study, total, counted, claimant)

    return with_retry(db, attempt)


def running_trials(connection: Connection, study_id: int) -> Sequence[Row[Any]]:
    """Running trials by number: `trial_id`, `number`, `now`, and the columns of their leases.

    The lease's columns are None for a trial that something else started.
    """
    return connection.execute(_running_of_study, {"of_study": study_id}).all()


def is_abandoned(row: Row[Any]) -> bool:
    """Whether one of `running_trials` waits for a new holder."""
    if row.token is None:
        return False
    if row.expires_at is None or has_died(row.worker):
        return True
    return _has_run_out(row) and (row.extended is not None or not is_alive(row.worker))


def _has_run_out(row: Row[Any]) -> bool:
    return row.expires_at is not None and row.expires_at < row.now


def _claim(
    connection: Connection,
    study: optuna.Study,
    total: int,
    counted: Sequence[TrialState],
    claimant: _Claimant,
) -> Lease | Wait | Done:
    running = running_trials(connection, study._study_id)
    for row in running:
        if row.claim == claimant.claim:  # by this very call, and the answer was lost
            return _lease(study, row.trial_id, row.number, row.token, row.abandonments, claimant)
        if row.token is None:
            stranger = _Claimant(worker="unknown", seconds=claimant.seconds, claim="")
            _insert_lease(connection, row.trial_id, 0, stranger)
    abandoned = [row for row in running if is_abandoned(row)]
    for row in running:
        if row.token is not None and _has_run_out(row) and row not in abandoned:
            _extend(connection, row, claimant)
    held = len(running) - len(abandoned)
    # Counted after the running ones were read. A trial that ends in between, told by something that
    # does not heed our lock, thus counts twice and not never.
    finished = connection.scalar(
        _count_of_study, {"of_study": study._study_id, "counted": list(counted)}
    )
    assert finished is not None
    if finished >= total:
        return Done(finished=finished)
    if finished + held >= total:
        return Wait(running=held)
    for row in abandoned:
        lease = _take_over(connection, study, row, claimant)
        if lease is not None:
            return lease
    if abandoned:  # all their holders came back at this very moment
        return Wait(running=len(running))
    return _begin(connection, study, claimant)


def _extend(connection: Connection, row: Row[Any], claimant: _Claimant) -> None:
    connection.execute(
        update(leases)
        .where(_unchanged(row))
        .values(expires_at=DatabaseClock() + claimant.seconds, extended=1)
    )


def _unchanged(row: Row[Any]) -> ColumnElement[bool]:
    """The lease as it was read; on PostgreSQL its holder may have renewed it since."""
    return and_(
        leases.c.trial_id == row.trial_id,
        leases.c.token == row.token,
        leases.c.expires_at.is_not_distinct_from(row.expires_at),
    )


def _take_over(
    connection: Connection, study: optuna.Study, row: Row[Any], claimant: _Claimant
) -> Lease | None:
    """None if its holder renewed the lease since the row was read."""
    token = row.token + 1
    abandonments = row.abandonments + (row.expires_at is not None)  # else it was released
    taken = connection.execute(
        update(leases)
        .where(_unchanged(row))
        .values(
            token=token,
            abandonments=abandonments,
            worker=claimant.worker,
            claim=claimant.claim,
            expires_at=DatabaseClock() + claimant.seconds,
            extended=None,
        )
    )
    if taken.rowcount == 0:
        return None
    return _lease(study, row.trial_id, row.number, token, abandonments, claimant)


def _begin(connection: Connection, study: optuna.Study, claimant: _Claimant) -> Lease:
    """A queued trial, or a new one: what Optuna does joins this transaction."""
    if connection.scalar(_queued, {"of_study": study._study_id}) is None:
        # `ask` would first read all trials, which of ten thousand takes many seconds.
        trial = Trial(study, study._storage.create_new_trial(study._study_id))
    else:
        trial = study.ask()
    _insert_lease(connection, trial._trial_id, 1, claimant)
    return _lease(study, trial._trial_id, trial.number, 1, 0, claimant)


def _insert_lease(connection: Connection, trial_id: int, token: int, claimant: _Claimant) -> None:
    connection.execute(
        _new_lease,
        {
            "trial_id": trial_id,
            "token": token,
            "worker": claimant.worker,
            "claim": claimant.claim,
            "duration": claimant.seconds,
        },
    )


def _lease(
    study: optuna.Study,
    trial_id: int,
    trial_number: int,
    token: int,
    abandonments: int,
    claimant: _Claimant,
) -> Lease:
    return Lease(
        study_id=study._study_id,
        trial_id=trial_id,
        trial_number=trial_number,
        token=token,
        claim=claimant.claim,
        attempt=abandonments + 1,
        worker=claimant.worker,
        seconds=claimant.seconds,
    )
