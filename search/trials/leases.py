"""The right to train a trial: kept alive, checked at every write, given up.

Each claim of a trial raises its token, and all that a worker writes is written in a transaction
that finds the worker's own token there. So a worker that was away for too long (stopped, swapped
out, cut off) may go on training, but writes nothing. `search.trials.claims` gives leases out.

Leases end by the database's clock; one that has run out is still good until the trial is claimed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import optuna
from optuna.trial import Trial, TrialState
from sqlalchemy import ColumnElement, Connection, Select, select, update

from search.trials.storage import Database, transaction, with_retry
from search.trials.tables import DatabaseClock, leases, trials

T = TypeVar("T")

MAX_ATTEMPTS = 3


class LostLeaseError(Exception):
    """The trial is in other hands or has ended; nothing was written. Drop it and take another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to train one trial.

    Attributes:
        token: 1 for a new trial and one more with each claim; tells the holder from a late writer.
        attempt: 1, and one more for each holder that vanished. Handing a trial back does not count.
        seconds: how long it lasts from each renewal.
    """

    study_id: int
    trial_id: int
    trial_number: int
    token: int
    attempt: int
    worker: str
    seconds: float

    @property
    def exhausted(self) -> bool:
        """So many holders vanished that the trial itself is the likely cause: fail it."""
        return self.attempt > MAX_ATTEMPTS


def fence(connection: Connection, lease: Lease) -> None:
    """Lock lease and trial until the transaction ends: what follows is written by the holder.

    Raises:
        LostLeaseError: the trial was claimed by another, released, or has ended.
    """
    held = _lease_and_state().where(*_is_held(lease), trials.c.state == TrialState.RUNNING)
    if connection.execute(held.with_for_update()).first() is None:
        raise LostLeaseError(f"trial {lease.trial_number} is in other hands or has ended")


def sample(db: Database, study: optuna.Study, lease: Lease, suggest: Callable[[Trial], T]) -> T:
    """What `suggest` makes of the trial. Either all its parameters are stored, or none.

    Parameters that are there already stand: a trial carried on samples nothing anew.

    Raises:
        LostLeaseError: see `fence`.
        StorageError: the database stayed away.
    """

    def attempt() -> T:
        with transaction(db) as connection:
            fence(connection, lease)
            return suggest(Trial(study, lease.trial_id))  # a fresh one knows what is stored

    return with_retry(db, attempt)


def finish(
    db: Database,
    lease: Lease,
    study: optuna.Study,
    *,
    state: TrialState,
    value: float | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """End the trial: user attributes, state and value in one transaction.

    Args:
        state: COMPLETE with a value; PRUNED (whose value is the last report) or FAIL without.

    Raises:
        LostLeaseError: see `fence`.
        StorageError: the database stayed away.
        ValueError: the value does not fit the state, or is NaN.
    """

    def attempt() -> None:
        with transaction(db, study_id=lease.study_id) as connection:
            if _was_finished(connection, lease):  # and the answer was lost
                return
            fence(connection, lease)
            for key, attribute in (attributes or {}).items():
                db.optuna.set_trial_user_attr(lease.trial_id, key, attribute)
            study.tell(lease.trial_number, value, state)
            connection.execute(update(leases).where(*_is_held(lease)).values(expires_at=None))

    with_retry(db, attempt)


def release(db: Database, lease: Lease) -> None:
    """Hand the trial back unfinished, to be claimed at once. A lost lease does no harm.

    Raises:
        StorageError: the database stayed away; the lease then runs out by itself.
    """

    def attempt() -> None:
        with db.engine.begin() as connection:
            connection.execute(update(leases).where(*_is_held(lease)).values(expires_at=None))

    with_retry(db, attempt)


def renew(db: Database, lease: Lease) -> bool:
    """Hold the trial for `lease.seconds` from now; False if the lease is lost. Tries only once."""
    running = select(trials.c.trial_id).where(
        trials.c.trial_id == lease.trial_id, trials.c.state == TrialState.RUNNING
    )
    with db.engine.begin() as connection:
        renewed = connection.execute(
            update(leases)
            .where(*_is_held(lease), running.exists())
            .values(expires_at=DatabaseClock() + lease.seconds)
        )
        return renewed.rowcount == 1


def _lease_and_state() -> Select[Any]:
    return select(leases.c.token).join(trials, trials.c.trial_id == leases.c.trial_id)


def _is_held(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return (
        leases.c.trial_id == lease.trial_id,
        leases.c.token == lease.token,
        leases.c.expires_at.is_not(None),
    )


def _was_finished(connection: Connection, lease: Lease) -> bool:
    """Whether by `finish` under this lease: only it both ends the trial and empties the lease."""
    finished = _lease_and_state().where(
        leases.c.trial_id == lease.trial_id,
        leases.c.token == lease.token,
        leases.c.expires_at.is_(None),
        trials.c.state != TrialState.RUNNING,
    )
    return connection.execute(finished).first() is not None
