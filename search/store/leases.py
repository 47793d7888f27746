"""The right to train a trial: kept alive, checked at every write, given up.

Each claim has a name that is never used again, and all that a worker writes is written in a
transaction that finds the name of its own claim there. So a worker that was away for too long
(stopped, swapped out, cut off), or whose study was deleted, may go on training, but writes nothing.
`search.store.claims` gives leases out.

Leases end by the database's clock; one that has run out is still good until the trial is claimed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import optuna
from optuna.trial import Trial, TrialState
from sqlalchemy import Connection, and_, bindparam, select, update

from search.store.direct_storage import set_attributes
from search.store.identity import study_transaction
from search.store.storage import Database, transaction, with_retry
from search.store.tables import DatabaseClock, leases, trials

T = TypeVar("T")

MAX_ATTEMPTS = 3


# Built once: SQLAlchemy takes longer to build a statement than to run it.
_mine = and_(
    leases.c.trial_id == bindparam("held_trial"), leases.c.claim == bindparam("held_claim")
)
_held = and_(_mine, leases.c.expires_at.is_not(None))
_running = and_(trials.c.trial_id == leases.c.trial_id, trials.c.state == TrialState.RUNNING)
_held_and_running = select(leases.c.token).join(trials, _running).where(_held).with_for_update()
# By `finish` under this very lease: only it both ends the trial and empties the lease.
_finished = select(leases.c.token).where(
    _mine,
    leases.c.expires_at.is_(None),
    select(trials.c.trial_id)
    .where(trials.c.trial_id == leases.c.trial_id, trials.c.state != TrialState.RUNNING)
    .exists(),
)
_give_up = update(leases).where(_held).values(expires_at=None)
_renew = (
    update(leases)
    .where(_held, select(trials.c.trial_id).where(_running).exists())
    .values(expires_at=DatabaseClock() + bindparam("duration"), extended=None)
)
_forgive = update(leases).where(_mine).values(abandonments=0)


class LostLeaseError(Exception):
    """The trial is in other hands or has ended; nothing was written. Drop it and take another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to train one trial.

    Attributes:
        token: 1 for a new trial and one more with each claim.
        claim: tells the holder from a late writer, also where a database gives ids out again.
        attempt: 1, and one more for each holder that vanished since a new epoch was last recorded.
            Handing a trial back does not count.
        seconds: how long it lasts from each renewal.
    """

    study_id: int
    trial_id: int
    trial_number: int
    token: int
    claim: str
    attempt: int
    worker: str
    seconds: float

    @property
    def exhausted(self) -> bool:
        """So many holders vanished at one place that the trial is the likely cause: fail it."""
        return self.attempt > MAX_ATTEMPTS


def fence(connection: Connection, lease: Lease) -> None:
    """Lock lease and trial until the transaction ends: what follows is written by the holder.

    Raises:
        LostLeaseError: the trial was claimed by another, released, or has ended.
    """
    if connection.execute(_held_and_running, _named(lease)).first() is None:
        raise LostLeaseError(f"trial {lease.trial_number} is in other hands or has ended")


def note_progress(connection: Connection, lease: Lease) -> None:
    """A new epoch was recorded: the holders that vanished before count no more."""
    if lease.attempt > 1:
        connection.execute(_forgive, _named(lease))


def sample(db: Database, study: optuna.Study, lease: Lease, suggest: Callable[[Trial], T]) -> T:
    """What `suggest` makes of the trial. Either all its parameters are stored, or none.

    Parameters that are there already stand: a trial carried on samples nothing anew.

    Raises:
        LostLeaseError: see `fence`.
        StorageError: the database stayed away.
    """

    def attempt() -> T:
        with transaction(db, hasty=True) as connection:
            fence(connection, lease)
            trial = Trial(study, lease.trial_id)  # a fresh one knows what is stored
            if lease.token > 1:  # Optuna's cache cannot write to a trial that it has not read
                trial.storage = db.optuna
            return suggest(trial)

    return with_retry(db, attempt)


def finish(
    db: Database,
    lease: Lease,
    study: optuna.Study,
    *,
    state: TrialState,
    value: float | None = None,
    attributes: Mapping[str, Any] | None = None,
    system_attributes: Mapping[str, Any] | None = None,
) -> None:
    """End the trial: attributes, state and value in one transaction.

    Args:
        state: COMPLETE with a value; PRUNED (whose value is the last report) or FAIL without.
        attributes: of the user's kind: columns and axes in optuna-dashboard.

    Raises:
        LostLeaseError: see `fence`.
        StudyGoneError: the study was deleted.
        StorageError: the database stayed away.
        ValueError: the value does not fit the state, or is NaN.
    """

    def attempt() -> None:
        with study_transaction(db, study) as connection:
            if connection.execute(_finished, _named(lease)).first() is not None:
                return  # the answer was lost
            fence(connection, lease)
            set_attributes(
                db.optuna, lease.trial_id, user=attributes or {}, system=system_attributes or {}
            )
            study.tell(lease.trial_number, value, state)
            connection.execute(_give_up, _named(lease))

    with_retry(db, attempt)


def release(db: Database, lease: Lease) -> None:
    """Hand the trial back unfinished, to be claimed at once. A lost lease does no harm.

    Raises:
        StorageError: the database stayed away; the lease then runs out by itself.
    """

    def attempt() -> None:
        with db.engine.begin() as connection:
            connection.execute(_give_up, _named(lease))

    with_retry(db, attempt)


def renew(db: Database, lease: Lease) -> bool:
    """Hold the trial for `lease.seconds` from now; False if the lease is lost. Tries only once."""
    with db.engine.begin() as connection:
        renewed = connection.execute(_renew, {**_named(lease), "duration": lease.seconds})
        return renewed.rowcount == 1


def _named(lease: Lease) -> dict[str, int | str]:
    return {"held_trial": lease.trial_id, "held_claim": lease.claim}
