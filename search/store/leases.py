"""The right to train a trial: renewed, checked at every write, given up.

Each claim has a name that is never reused, and a worker writes only in transactions that find the
name of its own claim in the database. A worker that was away for too long (stopped, swapped out,
cut off), or whose study was deleted, may therefore continue to train, but writes nothing.
`search.store.claims` hands out leases.

Leases run out by the database's clock; one that has run out stays valid until the trial is claimed.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.trial import Trial, TrialState
from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update
from sqlalchemy.exc import DBAPIError

from search.store import StudyGoneError
from search.store.database import Database, explain, read, write
from search.store.schema import REASON, DatabaseClock, leases, trial_values, trials
from search.store.schema import trial_intermediate_values as reports
from search.store.schema import trial_user_attributes as attributes

if TYPE_CHECKING:
    from search.store.studies import StudyHandle

T = TypeVar("T")
_log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
_AGAIN_SECONDS = 1.0  # before a renewal is retried after a database error
_LOOK_SECONDS = 0.1  # between checks for leases that are due
# A clock that keeps running while the host sleeps, as leases do: Linux has a separate one for that,
# on macOS it is the monotonic one (`time.monotonic` reads such a clock only on Windows).
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))
_now: Callable[[], float] = (
    partial(time.clock_gettime, _CLOCK) if hasattr(time, "clock_gettime") else time.monotonic
)

_is_running = and_(trials.c.trial_id == leases.c.trial_id, trials.c.state == TrialState.RUNNING)


class LostLeaseError(Exception):
    """The lease is lost or the trial has ended; nothing was written. Drop it and claim another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """The right to train one trial.

    Attributes:
        claim: tells the holder from a late writer, even if a database reuses ids.
        attempt: 1, plus 1 for each holder that vanished since the trial's last progress, see
            `record_epoch`. Handing a trial back does not count.
        seconds: how long it lasts from each renewal.
        was_paused: the trial was paused and has been chosen to resume.
    """

    study_id: int
    trial_id: int
    trial_number: int
    claim: str
    attempt: int
    worker: str
    seconds: float
    was_paused: bool = False

    @property
    def exhausted(self) -> bool:
        """So many holders vanished at one point that the trial is the likely cause: fail it."""
        return self.attempt > MAX_ATTEMPTS

    @property
    def own(self) -> ColumnElement[bool]:
        """Its row, until another claims the trial."""
        return and_(leases.c.trial_id == self.trial_id, leases.c.claim == self.claim)

    @property
    def held(self) -> ColumnElement[bool]:
        """Its row, until it is given up or another claims the trial."""
        return and_(self.own, leases.c.expires_at.is_not(None))


def fence(connection: Connection, lease: Lease) -> None:
    """Lock lease and trial until the transaction ends: what follows is written by the holder.

    Raises `LostLeaseError` if the trial was claimed by another, released, or has ended.
    """
    query = select(leases.c.claim).join(trials, _is_running).where(lease.held)
    if connection.execute(query.with_for_update()).first() is None:
        raise LostLeaseError(f"trial {lease.trial_number} has ended, or its lease is lost")


def sample(
    study: StudyHandle, lease: Lease, suggest: Callable[[Trial], T], *, ahead: bool = False
) -> T:
    """Return what `suggest` makes of the trial. Either all its parameters are stored, or none.

    Parameters that are already stored stay: a resumed trial samples nothing again. `ahead`: the
    sampler remembers what it draws, so it draws before others have to wait. See `fence`.
    """

    def opened() -> Trial:
        # A study caches trials, all of them while it samples, ended ones for good; a copy and a
        # fresh trial see what is stored.
        trial = Trial(copy(study.study), lease.trial_id)
        trial.storage = study.db.optuna
        return trial

    def draw(connection: Connection) -> None:
        is_held = connection.execute(select(leases.c.claim).where(lease.held)).first() is not None
        if is_held and not (trial := opened()).params:
            _ = trial.relative_params

    def ask(connection: Connection) -> T:
        fence(connection, lease)
        return suggest(opened())

    if ahead:
        read(study.db, draw)
    return write(study.db, ask)


def finish(
    study: StudyHandle,
    lease: Lease,
    *,
    state: TrialState,
    value: float | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """End or pause the trial: state and value in one transaction, under the study's lock.

    Args:
        state: COMPLETE with a value; PRUNED (whose value is the last report) or FAIL without;
            RUNNING to pause it, until `search.store.claims` hands it out again.
        attributes: user attributes: columns and axes in optuna-dashboard. They are written first:
            if the holder dies in between, the next one overwrites them.

    Raises:
        LostLeaseError: see `fence`.
        StudyGoneError: the study was deleted.
        ValueError: the value does not fit the state, or is NaN.
    """

    def is_done(connection: Connection) -> bool:
        # Only this function both empties a lease and ends its trial or marks it as paused.
        ended = or_(trials.c.state != TrialState.RUNNING, leases.c.paused.is_not(None))
        done = select(leases.c.claim).join(trials, trials.c.trial_id == leases.c.trial_id)
        done = done.where(lease.own, leases.c.expires_at.is_(None), ended)
        if connection.execute(done).first() is not None:  # the answer was lost
            return True
        fence(connection, lease)
        return False

    def describe(connection: Connection) -> None:
        if not is_done(connection):
            for name, it in (attributes or {}).items():
                study.db.optuna.set_trial_user_attr(lease.trial_id, name, it)

    def end(connection: Connection) -> None:
        if not is_done(connection):
            pauses = state == TrialState.RUNNING
            if not pauses:
                tell(connection, study.db, lease.trial_id, state, value)
            given_up = {"expires_at": None, "paused": 1 if pauses else None}
            connection.execute(update(leases).where(lease.held).values(given_up))

    if (value is not None and not math.isnan(value)) != (state == TrialState.COMPLETE):
        raise ValueError(f"a {state.name} trial cannot have the value {value}")
    if attributes:
        write(study.db, describe)
    study.write(end)


def tell(
    connection: Connection,
    db: Database,
    trial_id: int,
    state: TrialState,
    value: float | None = None,
) -> None:
    """Like Optuna's `Study.tell`, which would not end a trial that it has seen ended before."""
    if state == TrialState.PRUNED:
        of_trial = select(reports.c.intermediate_value).where(reports.c.trial_id == trial_id)
        value = connection.scalar(of_trial.order_by(reports.c.step.desc()).limit(1))
    db.optuna.set_trial_state_values(trial_id, state, None if value is None else [value])


def revive(connection: Connection, study_id: int) -> None:
    """Pause again all trials that were paused when their study ended, with all their reports."""
    pruned = (trials.c.study_id == study_id, trials.c.state == TrialState.PRUNED)
    marked = select(trials.c.trial_id).join(leases).where(*pruned, leases.c.paused.is_not(None))
    run_again(connection, connection.scalars(marked).all())


def run_again(connection: Connection, trial_ids: Sequence[int]) -> None:
    """Mark ended trials as running, with all their reports; their leases say who holds them."""
    connection.execute(delete(trial_values).where(trial_values.c.trial_id.in_(trial_ids)))
    why = (attributes.c.trial_id.in_(trial_ids), attributes.c.key == REASON)
    connection.execute(delete(attributes).where(*why))
    running = {"state": TrialState.RUNNING, "datetime_complete": None}
    connection.execute(update(trials).where(trials.c.trial_id.in_(trial_ids)).values(running))


def drop(study: StudyHandle, numbers: Collection[int]) -> Sequence[int]:
    """End paused trials for good; returns which. Those resumed in the meantime continue."""
    paused = (_is_running, leases.c.paused.is_not(None), leases.c.expires_at.is_(None))
    wanted = (trials.c.study_id == study.study_id, trials.c.number.in_(numbers))
    query = select(trials.c.trial_id, trials.c.number).where(*wanted, *paused)

    def prune(connection: Connection) -> Sequence[int]:
        found = {row.trial_id: row.number for row in connection.execute(query)}
        for trial_id in found:
            tell(connection, study.db, trial_id, TrialState.PRUNED)
        dropped = leases.c.trial_id.in_(found)
        connection.execute(update(leases).where(dropped).values(paused=None))
        return list(found.values())

    return study.write(prune) if numbers else []


def release(db: Database, lease: Lease) -> None:
    """Hand the trial back unfinished, to be claimed at once. A lost lease does no harm, and one
    that cannot be handed back because the database is unavailable runs out by itself."""
    given_up = update(leases).where(lease.held).values(expires_at=None)
    write(db, lambda connection: connection.execute(given_up))


def renew(db: Database, lease: Lease) -> bool:
    """Hold the trial for `lease.seconds` from now; False if the lease is lost. Tries only once."""
    is_running = select(trials.c.trial_id).where(_is_running).exists()
    statement = update(leases).where(lease.held, is_running)
    renewed = statement.values(expires_at=DatabaseClock() + lease.seconds, extended=None)
    with db.engine.begin() as connection:
        return connection.execute(renewed).rowcount == 1


class Heartbeat:
    """Context manager that renews each lease three times in its duration, from its own thread.

    No database error ends it; an outage is logged once. If a lease is lost, the next write in its
    name says so.
    """

    def __init__(self, db: Database) -> None:
        self._db, self._kept = db, set[Lease]()
        self._ended, self._is_told = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=1.0)  # no longer: it may be waiting for the database

    @contextmanager
    def keep(self, lease: Lease) -> Iterator[None]:
        """Renew a lease while the `with` block runs. Any number may be kept at a time."""
        self._kept.add(lease)
        try:
            yield
        finally:
            self._kept.remove(lease)

    def _run(self) -> None:
        due = _now()
        while not self._ended.wait(_LOOK_SECONDS):
            if due <= _now():
                due = min(map(self._renew, self._kept.copy()), default=due)

    def _renew(self, lease: Lease) -> float:
        """Renew the lease; returns when it is due again."""
        try:
            renew(self._db, lease)
        except StudyGoneError:
            pass  # the next write reports it
        except Exception as error:  # whatever it was, the next beat may succeed
            # If only that connection was closed, the next one is new.
            tells = not (isinstance(error, DBAPIError) and error.connection_invalidated)
            if tells and not self._is_told:
                why = f"{explain(error)}; trying again"
                _log.warning("cannot renew the lease of trial %d: %s", lease.trial_number, why)
            self._is_told |= tells
            return _now() + _AGAIN_SECONDS
        self._is_told = False
        return _now() + lease.seconds / 3
