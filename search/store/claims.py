"""Giving out trials, so that totals are exact and no trial is lost with its worker.

A trial is claimed in one transaction under a lock on its study: slots are counted, an abandoned
trial is taken over or a new one asked of Optuna, and its lease is written. At no moment does a
trial run without a lease, or count twice; there is no state between asking and holding to die in.

A worker's name is `host:pid:start:scope`. Start (seconds since boot, times 100) tells a process
from a later one with the same number. Scope (boot id and process namespace) tells apart hosts and
containers that call themselves alike; where there is no /proc to read it from it is `?`, and a dead
worker is noticed only when its lease runs out.
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from optuna.trial import TrialState
from sqlalchemy import Connection, Row, and_, func, insert, select, update

from search.store.database import with_retry
from search.store.leases import Lease
from search.store.schema import DatabaseClock, leases, trials

if TYPE_CHECKING:
    from search.store.studies import StudyHandle

LEASE_SECONDS = 60.0
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)  # towards a study's total; failed ones are not
COUNTED_OF_ARMS = (*COUNTED, TrialState.FAIL)  # but in a comparison: an arm that fails is a result


def this_worker() -> str:
    """The name of this process, at most 150 characters. A forked child has its own."""
    host, scope = _here()
    return f"{host}:{os.getpid()}:{_start(os.getpid())}:{scope}"


def display_name(worker: str) -> str:
    """`host:pid`, for people."""
    return ":".join(worker.split(":")[:2])


def has_died(worker: str) -> bool:
    """Whether the process of that name has certainly ended; False where that cannot be known."""
    return _is_local(worker) and not _exists(worker)


def is_alive(worker: str) -> bool:
    """Whether the process of that name certainly exists, running or stopped, on this host."""
    return _is_local(worker) and _exists(worker)


def _is_local(worker: str) -> bool:
    """Whether it is a process that could be seen here under its own number."""
    found = re.fullmatch(r"([^:]*):[0-9]{1,9}:[^:]*:([^:]*)", worker, re.ASCII)
    host, scope = _here()
    return found is not None and found.groups() == (host, scope) and scope != "?"


def _exists(worker: str) -> bool:
    _, pid, start, _ = worker.split(":")
    return _start(int(pid)) == start


def _start(pid: int) -> str:
    """When the process started; `ended` where there is none, or one not yet waited for."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return "ended"
        # From boot and not since 1970: the host's clock may be set.
        return str(round(100 * (process.create_time() - psutil.boot_time())))
    except psutil.Error:
        return "ended"


def _here() -> tuple[str, str]:
    """Host and scope, as the names of this host's workers have them."""
    host = socket.gethostname().replace(":", "_")[:64]
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return host, f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return host, "?"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Others train the last trials; one of those may yet fail or be abandoned."""

    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The study has its total."""

    finished: int


def claim(
    study: StudyHandle,
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
    """
    claimant = _Claimant(
        study=study, worker=worker or this_worker(), seconds=lease_seconds, name=uuid.uuid4().hex
    )

    def attempt() -> Lease | Wait | Done:
        with study.transaction(durable=False) as connection:
            return claimant.claim(connection, total, counted)

    return with_retry(study.db, attempt)


def running_trials(connection: Connection, study_id: int) -> Sequence[Row[Any]]:
    """Running trials by number: `trial_id`, `number`, `now`, and the columns of their leases.

    The lease's columns are None for a trial that something else started.
    """
    lease = [column for column in leases.c if column.name != "trial_id"]
    query = (
        select(trials.c.trial_id, trials.c.number, DatabaseClock().label("now"), *lease)
        .outerjoin(leases, leases.c.trial_id == trials.c.trial_id)
        .where(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
        .order_by(trials.c.number)
    )
    return connection.execute(query).all()


def is_abandoned(row: Row[Any]) -> bool:
    """Whether one of `running_trials` waits for a new holder."""
    if row.token is None:
        return False
    if row.expires_at is None or has_died(row.worker):
        return True
    return _has_run_out(row) and (row.extended is not None or not is_alive(row.worker))


def _has_run_out(row: Row[Any]) -> bool:
    return row.expires_at is not None and row.expires_at < row.now


@dataclass(frozen=True, kw_only=True, slots=True)
class _Claimant:
    """One call of `claim`; its methods run in a transaction under the study's lock."""

    study: StudyHandle
    worker: str
    seconds: float
    name: str

    def claim(
        self, connection: Connection, total: int, counted: Sequence[TrialState]
    ) -> Lease | Wait | Done:
        running = running_trials(connection, self.study.study_id)
        for row in running:
            if row.claim == self.name:  # by this very call, and the answer was lost
                return self._lease(row.trial_id, row.number, row.token, row.abandonments)
            if row.token is None:
                self._insert_lease(connection, row.trial_id, token=0, worker="unknown", claim="")
        abandoned = [row for row in running if is_abandoned(row)]
        for row in running:
            if row.token is not None and _has_run_out(row) and row not in abandoned:
                self._update_lease(connection, row, extended=1)
        held = len(running) - len(abandoned)
        # Counted after the running ones were read. A trial that ends in between, told by something
        # that does not heed our lock, thus counts twice and not never.
        of_study = trials.c.study_id == self.study.study_id
        count = select(func.count()).where(of_study, trials.c.state.in_(counted))
        finished = connection.scalar(count) or 0
        if finished >= total:
            return Done(finished=finished)
        if finished + held >= total:
            return Wait(running=held)
        for row in abandoned:
            lease = self._take_over(connection, row)
            if lease is not None:
                return lease
        if abandoned:  # all their holders came back at this very moment
            return Wait(running=len(running))
        return self._begin(connection)

    def _take_over(self, connection: Connection, row: Row[Any]) -> Lease | None:
        """None if its holder renewed the lease since the row was read."""
        token = row.token + 1
        abandonments = row.abandonments + (row.expires_at is not None)  # else it was released
        taken = self._update_lease(
            connection,
            row,
            token=token,
            abandonments=abandonments,
            worker=self.worker,
            claim=self.name,
            extended=None,
        )
        return self._lease(row.trial_id, row.number, token, abandonments) if taken else None

    def _begin(self, connection: Connection) -> Lease:
        """A queued trial, or a new one: what Optuna does joins this transaction."""
        storage, study_id = self.study.db.optuna, self.study.study_id
        of_study = trials.c.study_id == study_id
        queued = (
            select(trials.c.trial_id)
            .where(of_study, trials.c.state == TrialState.WAITING)
            .order_by(trials.c.number)
        )
        # What `study.ask` does, which would first read all trials of the study.
        trial_id = connection.scalar(queued.limit(1))
        if trial_id is None:
            trial_id = storage.create_new_trial(study_id)
        else:
            storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
        number = connection.scalar(select(trials.c.number).where(trials.c.trial_id == trial_id))
        assert number is not None
        self._insert_lease(connection, trial_id, token=1, worker=self.worker, claim=self.name)
        return self._lease(trial_id, number, 1, 0)

    def _insert_lease(self, connection: Connection, trial_id: int, **values: Any) -> None:
        expires_at = DatabaseClock() + self.seconds
        connection.execute(
            insert(leases).values(
                trial_id=trial_id, abandonments=0, expires_at=expires_at, **values
            )
        )

    def _update_lease(self, connection: Connection, row: Row[Any], **values: Any) -> bool:
        """False if it is not as it was read: on PostgreSQL its holder may have renewed it since."""
        unchanged = and_(
            leases.c.trial_id == row.trial_id,
            leases.c.token == row.token,
            leases.c.expires_at.is_not_distinct_from(row.expires_at),
        )
        expires_at = DatabaseClock() + self.seconds
        updated = connection.execute(
            update(leases).where(unchanged).values(expires_at=expires_at, **values)
        )
        return updated.rowcount == 1

    def _lease(self, trial_id: int, number: int, token: int, abandonments: int) -> Lease:
        return Lease(
            study_id=self.study.study_id,
            trial_id=trial_id,
            trial_number=number,
            token=token,
            claim=self.name,
            attempt=abandonments + 1,
            worker=self.worker,
            seconds=self.seconds,
        )
