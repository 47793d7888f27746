"""Requests for single trials: train one to its end, or train a configuration of the user's.

Each is written in one transaction under the study's lock, so that totals hold: a continued trial is
held by no worker and counts once, and a configuration is queued like the baseline. A repeated
request finds them already there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Row, delete, insert, select

from models.checks import shown
from search.analysis.comparison import has_diverged
from search.running.request import Request
from search.sampling.flat import unstop
from search.spec import space
from search.spec.config import StudySpec
from search.spec.domains import ParameterValue, SpecError, plain
from search.spec.parameters import read_values
from search.spec.space import CONTINUED, ENQUEUED, OVERRIDES
from search.store.claims import COUNTED, is_paused
from search.store.database import read, with_retry
from search.store.leases import run_again
from search.store.records import epochs_of
from search.store.schema import REASON, leases, trials
from search.store.studies import StudyHandle, load_spec
from search.store.views import State, TrialView, view_study

STOPPED = (TrialState.PRUNED, TrialState.FAIL)  # states from which a trial is trained again
Values = Mapping[str, ParameterValue]


def read_queue(
    written: Sequence[Mapping[str, Any]], spec: StudySpec
) -> list[dict[str, ParameterValue]]:
    """Configurations that the user asks for; raises SpecError for wrong names and types."""
    if written and spec.is_comparison:
        arms = f"this study compares {len(spec.arms)} arms, which are fixed once it has begun"
        remedy = "add an [[arm]] to its file and give another --study NAME"
        raise SpecError("enqueue", f"enqueue is for a search, but {arms}; {remedy}")
    found = []
    for place, table in enumerate(written, start=1):
        try:
            if not table:
                raise SpecError("enqueue", "it names no parameter, e.g. learning_rate=3e-3")
            found.append(read_values(table, spec.parameters))
        except SpecError as error:
            raise SpecError("enqueue", f"enqueue {place}: {error}") from error
    return found


def kept_total(spec: StudySpec, request: Request) -> tuple[str, ...]:
    """A note if an existing study has a higher total than the option or the file asks for."""
    name = "repeats" if spec.is_comparison else "trials"
    total, of_file = getattr(spec, name), request.fields if request.names_file else {}
    asked = {**of_file, **request.options}.get(name, total)
    if name not in request.options:
        file = f"the {asked} of {request.file.name}"
        told = f"the study keeps its {total} {name}, not {file}; --{name} {asked} lowers them"
    elif spec.is_comparison:
        begun = f"repeat {total} has begun, so it is trained with every arm"
        told = f"{begun}: {total} repeats, not {asked}"
    else:
        told = f"{total} trials are finished or under way, so the study has {total}, not {asked}"
    return (told,) if asked < total else ()


def check_requests(
    study: StudyHandle | None,
    spec: StudySpec,
    numbers: Sequence[int],
    queue: Sequence[Values],
    *,
    first: int,
) -> dict[int, FrozenTrial]:
    """The trials that `enqueue` would queue, by their places in `queue`, from 1.

    Nothing is written. Raises SpecError if it or `continue_trials` would.

    Args:
        first: number of trials that a new study (`study` is None) begins with.
    """
    if study is None:
        if numbers:
            why = "there is no such study yet; name one with --study and --storage"
            raise SpecError("continue", f"trial {shown(numbers[0])} cannot be continued: {why}")
        return _missing([space.queued_trial(spec, {}, {})] * first, spec, queue)
    if numbers:
        read(study.db, lambda connection: _find(connection, study, spec, numbers))
    return _missing(read(study.db, lambda _: _trials_of(study)), spec, queue) if queue else {}


def continue_trials(study: StudyHandle, spec: StudySpec, numbers: Sequence[int]) -> list[str]:
    """Have stopped trials trained to their ends; returns a line for each: where it continues.

    Like abandoned trials, they are claimed before all others. In a comparison, one that failed is
    trained again, as no other takes its place; else it is left out if it was continued before.

    Raises:
        SpecError: there is no such trial, or it cannot be continued; nothing was written.
    """

    def go_on(connection: Connection) -> Sequence[tuple[Row[Any], bool]]:
        found = _find(connection, study, spec, numbers)
        rows = [row for row, is_lost in found if not is_lost]
        if any(map(_is_stopped, rows)):
            unstop(study)
        run_again(connection, [it.trial_id for it in rows if it.state in STOPPED])
        for row in rows:
            if row.state != TrialState.COMPLETE:
                study.db.optuna.set_trial_user_attr(row.trial_id, CONTINUED, True)
            if _is_stopped(row):  # another program's trial has no lease
                connection.execute(delete(leases).where(leases.c.trial_id == row.trial_id))
                # A new token tells processes that have seen the trial end to read it again.
                free = {"trial_id": row.trial_id, "abandonments": 0, "token": (row.token or 1) + 1}
                free |= {"claim": row.claim or "", "worker": row.worker or "unknown"}
                connection.execute(insert(leases).values(free))
        return found

    return [f"trial {it.number} {_told(study, spec, it, lost)}" for it, lost in study.write(go_on)]


def enqueue(study: StudyHandle, spec: StudySpec, queue: Sequence[Values]) -> list[str]:
    """Queue configurations that were not requested before, or failed; returns a line for each.

    Raises:
        SpecError: the study's total has no room for them; nothing was written.
    """
    # Optuna takes a paused trial for a running one. What another start queues meanwhile is waiting.
    view = with_retry(study.db, lambda: view_study(study))
    states = {trial.number: trial.state for trial in view.trials}

    def add(_connection: Connection) -> list[str]:
        there = _trials_of(study)
        new = _missing(there, spec, queue)
        lines = [
            f"trial {it.number} already has this configuration "
            f"({_state_in_words(it.number, states.get(it.number, 'waiting'))}){_in_words(it)}"
            for values in queue
            for it in there
            if _is_of(it, values)
        ]
        if new:
            unstop(study)
        for one in new.values():
            trial_id = study.db.optuna.create_new_trial(study.study_id, one)
            number = study.db.optuna.get_trial(trial_id).number
            lines.append(f"trial {number} is queued{_in_words(one)}")
        return list(dict.fromkeys(lines))

    return study.write(add)


def foreseen(
    study: StudyHandle | None, spec: StudySpec, request: Request, queue: Sequence[Values]
) -> tuple[StudySpec, tuple[TrialView, ...], str | None]:
    """What a start would resume: the study with the total that it would reach, its trials, and why
    it has ended early, if it has.

    A flat study then trains only what is requested, unless `stop_when_flat` or its total changes.
    """
    if study is None:
        return spec, (), None
    view = with_retry(study.db, lambda: view_study(study))
    trials = tuple(
        replace(one, state="interrupted", continued=True)
        if one.number in request.continue_trials
        and one.state != "complete"
        and not (one.state == "failed" and _is_for_good(spec, one.reason))
        else one
        for one in view.trials
    )
    same = view.stop_when_flat == request.stop_when_flat and spec.trials == load_spec(study).trials
    if view.stopped is None or request.stop_when_flat is None or not same:
        return spec, trials, None
    new = _missing(read(study.db, lambda _: _trials_of(study)), spec, queue)
    return spec.with_total(view.finished + len(new)), trials, view.stopped


def _find(
    connection: Connection, study: StudyHandle, spec: StudySpec, numbers: Sequence[int]
) -> Sequence[tuple[Row[Any], bool]]:
    """Trials with leases, and whether each is lost; SpecError if one cannot be continued."""
    columns = (leases.c[name] for name in ("claim", "token", "worker", "paused", "expires_at"))
    query = select(trials.c.trial_id, trials.c.number, trials.c.state, *columns).outerjoin(leases)
    query = query.where(trials.c.study_id == study.study_id)
    found: dict[int, Any] = {row.number: row for row in connection.execute(query)}
    name = f"study {study.name!r}"
    for number in numbers:
        if type(number) is not int or number not in found:
            there = f"its trials are 0 to {max(found)}" if found else "it has none yet"
            raise SpecError("continue", f"{name} has no trial {shown(number)}; {there}")
    trained = {number for number in numbers if not _is_lost(study, spec, found[number])}
    # Room for paused trials is not needed: `claim` takes abandoned ones first.
    needed = sum(
        row.state in COUNTED
        or (row.state == TrialState.RUNNING and not is_paused(row))
        or row.number in trained
        for row in found.values()
    )
    if needed > spec.trials:
        more = f"more than its total of {spec.trials}; give --trials {needed}, too"
        raise SpecError("continue", f"{name} would then count {needed} trials, {more}")
    return [(found[number], number not in trained) for number in sorted(set(numbers))]


def _is_lost(study: StudyHandle, spec: StudySpec, row: Row[Any]) -> bool:
    """Whether the trial has failed for good; raises SpecError if it was never continued."""
    if row.state != TrialState.FAIL:
        return False
    of_trial = study.db.optuna.get_trial_user_attrs(row.trial_id)
    is_for_good = _is_for_good(spec, of_trial.get(REASON))
    if not is_for_good or CONTINUED in of_trial:
        return is_for_good
    why = "diverged, which is a result of its arm and would happen again; leave it out"
    if not spec.is_comparison:
        why = "failed, and only a paused or pruned trial can be continued; --enqueue trains a "
        why += "configuration from scratch"
    raise SpecError("continue", f"trial {row.number} {why}")


def _is_for_good(spec: StudySpec, reason: object) -> bool:
    """Whether a trial that failed for this reason is not trained again."""
    return not spec.is_comparison or has_diverged(reason)


def _is_stopped(row: Row[Any]) -> bool:
    return row.state in STOPPED or (row.state == TrialState.RUNNING and is_paused(row))


def _told(study: StudyHandle, spec: StudySpec, row: Row[Any], is_lost: bool) -> str:
    if row.state == TrialState.COMPLETE:
        return "is already complete"
    if row.state == TrialState.FAIL:
        return f"failed and {'is left out' if is_lost else 'starts over'}"
    if not _is_stopped(row):
        state = "interrupted" if row.claim is not None and row.expires_at is None else "under way"
        state = "queued" if row.state == TrialState.WAITING else state
        return f"is {state} and will now train to its end"
    rows = epochs_of(study.db, study.study_id, numbers=[row.number])
    if epoch := max((it.epoch for it in rows), default=0):
        return f"continues after epoch {epoch} of {spec.epochs} if its checkpoint still exists"
    return "starts over because it has no whole epoch yet"


def _trials_of(study: StudyHandle) -> list[FrozenTrial]:
    return study.db.optuna.get_all_trials(study.study_id, deepcopy=False)


def _is_of(trial: FrozenTrial, values: Values) -> bool:
    """Whether the trial trains what the user asks for, or has; not so if it failed."""
    wanted = trial.user_attrs.get(ENQUEUED) == plain(values)
    return wanted and trial.state != TrialState.FAIL


def _missing(
    there: Sequence[FrozenTrial], spec: StudySpec, queue: Sequence[Values]
) -> dict[int, FrozenTrial]:
    """New trials for the configurations that have none, by their places in `queue`, from 1.

    Raises SpecError if there is no room.
    """
    new = dict[int, FrozenTrial]()
    for place, values in enumerate(queue, start=1):
        if not any(_is_of(it, values) for it in (*there, *new.values())):
            new[place] = _queued(spec, values)
    taken = sum(it.state != TrialState.FAIL for it in there)
    if new and taken + len(new) > spec.trials:
        begun = f"{taken} of {spec.trials} trials have begun or are queued"
        remedy = f"no room for {len(new)} more; give --trials {taken + len(new)}, too"
        raise SpecError("enqueue", f"{begun}, which leaves {remedy}")
    return new


def _queued(spec: StudySpec, values: Values) -> FrozenTrial:
    """The trial for a configuration that the user asks for; what it leaves out is sampled."""
    open_ones = space.searched(spec)
    inside = {n: it for n, it in values.items() if n in open_ones and open_ones[n].contains(it)}
    outside = {n: it for n, it in values.items() if n not in inside}
    attributes = {ENQUEUED: plain(values)}
    if outside:
        attributes[OVERRIDES] = plain(outside)
    return space.queued_trial(spec, inside, attributes)


def _state_in_words(number: int, state: State) -> str:
    stopped = state in ("paused", "pruned")
    return f"{state}; --continue {number} trains it to its end" if stopped else state


def _in_words(trial: FrozenTrial) -> str:
    values = trial.user_attrs[ENQUEUED]
    return ": " + ", ".join(f"{name} = {shown(value)}" for name, value in values.items())
