"""Hands out trials so that totals are exact and no trial is lost with its worker.

A trial is claimed in one transaction under a lock on its study: slots are counted, an abandoned or
paused trial is taken over or Optuna creates a new one, and its lease is written. So no trial ever
runs without a lease or counts twice, and no worker can die between creating a trial and holding it.

A paused trial is RUNNING for Optuna but was paused at a rung (`leases.finish`), and keeps its place
in the total. Once nothing is worth training any more, all paused trials are marked as pruned, but
keep their `paused` marks: they resume if the study may spend more.

A worker's name is `host:pid:start:scope`. Start (seconds since boot, times 100) tells a process
from a later one with the same pid. Scope (boot id and process namespace) tells apart hosts and
containers of the same name. Without a /proc to read it from, it is `?`: any process with that pid
passes for the worker, and a dead worker is noticed only when its lease runs out.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, repeat
from typing import Any, Literal

import psutil
from optuna.trial import TrialState
from sqlalchemy import Connection, Row, and_, func, insert, select, update

from data.reading import this_host
from search.spec.config import StudySpec
from search.store.database import read
from search.store.leases import Lease, tell
from search.store.schema import SPEC, STOPPED, DatabaseClock, leases, trials
from search.store.schema import study_user_attributes as attributes
from search.store.studies import StudyHandle, damage_in_a_line

LEASE_SECONDS = 60.0
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)  # towards a study's total; failed ones are not
COUNTED_OF_ARMS = (*COUNTED, TrialState.FAIL)  # but in a comparison: an arm that fails is a result
# What a free worker trains next: a paused trial, by number; a new one; None if nothing is worth it.
Choice = int | Literal["new"] | None
# There is no trial to train: others train the last ones, and one of these may yet fail or be
# abandoned ("wait"); the study has reached its total ("done"); or the caller's total or budget is
# no longer the study's ("changed").
Nothing = Literal["wait", "done", "changed"]
Grant = Callable[[int, int, int], Lease]  # for a trial's id, its number and its abandonments


def waits() -> Iterator[float]:
    """Seconds to wait each time there is nothing to claim, a tenth more each time, at most 5.

    To look for work takes the study's lock, which those who train the last trials need to report.
    """
    return accumulate(repeat(1.1), lambda it, factor: min(factor * it, 5.0), initial=0.5)


def this_worker() -> str:
    """The name of this process, at most 150 characters. A forked child has its own."""
    host, scope = this_host()
    return f"{host}:{os.getpid()}:{_start(os.getpid())}:{scope}"


def exists(worker: str) -> bool | None:
    """Whether the process of that name is alive, running or stopped; None if that is unknown."""
    found = re.fullmatch(r"([^:]*):([0-9]{1,9}):([^:]*):([^:]*)", worker, re.ASCII)
    host, scope = this_host()
    if found is None or (found[1], found[4]) != (host, scope):
        return None
    if scope == "?":  # maybe another host of this name; and the boot time is inexact
        return psutil.pid_exists(int(found[2])) or None
    return _start(int(found[2])) == found[3]


def _start(pid: int) -> str:
    """When the process started; `ended` if there is none, or only one not yet waited for."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            # Since boot, not since 1970: the host's clock may be changed.
            return str(round(100 * (process.create_time() - psutil.boot_time())))
    return "ended"


def claim(
    study: StudyHandle,
    *,
    total: int,
    budget: float | None = None,
    counted: Sequence[TrialState] = COUNTED,
    choose: Callable[[Connection], Choice] | None = None,
    flat: Callable[[Connection], str | None] | None = None,
    worker: str | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> Lease | Nothing:
    """Claim a trial: an abandoned one; else the choice of `choose`; else a queued or new one.

    A trial is abandoned if it was released, its lease has run out, or its holder was a process on
    this host that has ended. If the lease has run out but the holder is alive on this host, both
    may have been asleep, or the clock was changed: the lease is extended once, for the holder to
    renew. A trial that something else (plain Optuna) started in this study gets one lease when it
    is first seen.

    Args:
        total: how many trials in the `counted` states the study should have.
        budget: see `StudySpec`; if given, the stored specification must have this total and budget.
        choose: asked before the study is locked, and again under the lock only if its answer is
            outdated by then. None: paused trials are resumed like abandoned ones.
        flat: says why the study should end before it reaches its total; None if it should continue.
            Asked before the study is locked, and again before it ends for that; an abandoned trial
            is claimed in any case.
        worker: a name made by `this_worker`, which is the default.

    Raises:
        StudyGoneError: the study was deleted.
        StorageError: its stored specification is damaged.
    """
    claim_name, worker_name = uuid.uuid4().hex, worker or this_worker()

    def grant(trial_id: int, number: int, abandonments: int) -> Lease:
        return Lease(
            study_id=study.study_id,
            trial_id=trial_id,
            trial_number=number,
            claim=claim_name,
            attempt=abandonments + 1,
            worker=worker_name,
            seconds=lease_seconds,
        )

    def foresee(connection: Connection) -> tuple[Choice, str | None]:
        why = flat(connection) if flat else None
        return choose(connection) if choose and not why else None, why

    def give(connection: Connection) -> Lease | Nothing:
        paused, abandoned, held = dict[int, Row[Any]](), list[Row[Any]](), 0
        for row in running_trials(connection, study.study_id):
            if row.claim == claim_name:  # by this same call, whose answer was lost
                return grant(row.trial_id, row.number, row.abandonments)
            if choose is not None and is_paused(row):
                paused[row.number] = row
            elif is_abandoned(row):
                abandoned.append(row)
            else:
                held += 1
                if row.claim is None:
                    stranger = {"worker": "unknown", "claim": "", "token": 0}
                    _insert_lease(connection, row.trial_id, lease_seconds, **stranger)
                elif row.expires_at < row.now:
                    _update_lease(connection, row, lease_seconds, extended=1)
        if budget is not None:
            stored = stored_attribute(connection, study.study_id, SPEC)
            with damage_in_a_line(study):
                if _totals(stored) != (total, budget):
                    return "changed"
        # Counted after the running ones were read, so that a trial that something ignoring our lock
        # ends in between counts twice rather than not at all.
        of_study = trials.c.study_id == study.study_id
        ended = select(func.count()).where(of_study, trials.c.state.in_(counted))
        finished = connection.scalar(ended) or 0
        if abandoned and finished + held < total:
            taken = (_take_over(connection, row, grant) for row in abandoned)
            return next(filter(None, taken), "wait")  # all their holders may just have come back
        if finished < total:
            choice, why = foreseen
            if why is None:
                room = total - finished - held - len(paused) > 0
                if choose is None:
                    choice = "new"
                elif not (
                    choice in paused or (choice == "new" and room) or (choice is None and held)
                ):
                    choice = choose(connection)  # the first answer is outdated
                if choice in paused:
                    return _take_over(connection, paused[choice], grant) or "wait"
                if room and (choice == "new" or not held):
                    return _begin(connection, study, grant)
            if held:
                return "wait"
            if why is not None and study.study.user_attrs.get(STOPPED) is None:
                if flat is not None and flat(connection) is None:
                    return "wait"  # the setting has changed
                study.study.set_user_attr(STOPPED, why)
        for row in paused.values():
            tell(connection, study.db, row.trial_id, TrialState.PRUNED)
        return "done"

    foreseen = read(study.db, foresee) if choose or flat else (None, None)
    return study.write(give)


def stored_attribute(connection: Connection, study_id: int, key: str) -> Any:
    """A study's attribute as it is now, JSON; None if it has none of that name."""
    of_study = attributes.c.study_id == study_id, attributes.c.key == key
    return connection.scalar(select(attributes.c.value_json).where(*of_study))


@lru_cache(maxsize=8)  # not parsed and checked for every claim
def _totals(stored_spec: str) -> tuple[int, float]:
    spec = StudySpec.from_dict(json.loads(stored_spec))
    return spec.trials, spec.budget


def running_trials(connection: Connection, study_id: int) -> Sequence[Row[Any]]:
    """Running and paused trials by number: `trial_id`, `number`, `now`, and their leases' columns.

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


def is_paused(row: Row[Any]) -> bool:
    """Whether a row of `running_trials` is paused at a rung."""
    return row.paused is not None and row.expires_at is None


def is_abandoned(row: Row[Any]) -> bool:
    """Whether a row of `running_trials` is waiting for a new holder."""
    if row.claim is None:
        return False
    if row.expires_at is None or (lives := exists(row.worker)) is False:
        return True
    return row.expires_at < row.now and (row.extended is not None or not lives)


def _take_over(connection: Connection, row: Row[Any], grant: Grant) -> Lease | None:
    """None if its holder renewed the lease since the row was read."""
    abandonments = row.abandonments + (row.expires_at is not None)  # else it was released
    lease = replace(grant(row.trial_id, row.number, abandonments), was_paused=is_paused(row))
    values = {"token": leases.c.token + 1, "abandonments": abandonments, "paused": None}
    values |= {"worker": lease.worker, "claim": lease.claim, "extended": None}
    return lease if _update_lease(connection, row, lease.seconds, **values) else None


def _begin(connection: Connection, study: StudyHandle, grant: Grant) -> Lease:
    """Start a queued or a new trial, like `study.ask`, which would read all trials."""
    optuna, of_study = study.db.optuna, trials.c.study_id == study.study_id
    queued = select(trials.c.trial_id).where(of_study, trials.c.state == TrialState.WAITING)
    trial_id = connection.scalar(queued.order_by(trials.c.number).limit(1))
    if trial_id is None:
        trial_id = optuna.create_new_trial(study.study_id)
    else:
        optuna.set_trial_state_values(trial_id, state=TrialState.RUNNING)
    number = select(trials.c.number).where(trials.c.trial_id == trial_id)
    lease = grant(trial_id, connection.execute(number).scalar_one(), 0)
    holder = {"worker": lease.worker, "claim": lease.claim, "token": 1}
    _insert_lease(connection, trial_id, lease.seconds, **holder)
    return lease


def _insert_lease(connection: Connection, trial_id: int, seconds: float, **values: Any) -> None:
    values |= {"expires_at": DatabaseClock() + seconds, "abandonments": 0}
    connection.execute(insert(leases).values(trial_id=trial_id, **values))


def _update_lease(connection: Connection, row: Row[Any], seconds: float, **values: Any) -> bool:
    """False if it changed since it was read: on PostgreSQL its holder may have renewed it."""
    unchanged = and_(
        leases.c.trial_id == row.trial_id,
        leases.c.claim == row.claim,
        leases.c.expires_at.is_not_distinct_from(row.expires_at),
    )
    values["expires_at"] = DatabaseClock() + seconds
    return connection.execute(update(leases).where(unchanged).values(values)).rowcount == 1
