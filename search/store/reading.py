"""Reads a study as it stands in the database, all of it or a bounded part of a long one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Row, select

from search.spec.config import StudySpec
from search.spec.space import OVERRIDES, suggest, true_params
from search.store.claims import is_abandoned, running_trials
from search.store.database import read
from search.store.records import EpochRow, epochs_of, results_of
from search.store.schema import epochs
from search.store.studies import StudyHandle, load_facts, load_spec
from search.store.views import (
    HARDWARE,
    MOST,
    PARAMETERS,
    REASON,
    SECONDS,
    STATES,
    VERSIONS,
    LeftOut,
    State,
    StudyView,
    TrialView,
)

MOST_PARAMETERS = 10**12
FAILED = 100  # trials of a long study that are shown with their reasons


def view_study(
    study: StudyHandle, *, most: int | None = MOST, also: Collection[int] = ()
) -> StudyView:
    """Read the study as it is now. Trials that have ended are read once for each handle.

    Args:
        most: trials to read one by one; None: all. A comparison is always read whole.
        also: numbers of trials to read in any case.
    """
    spec, facts, attributes = load_spec(study), load_facts(study), study.attributes
    found, leases = read(
        study.db,
        lambda connection: (
            study.study.get_trials(deepcopy=False),
            {row.number: row for row in running_trials(connection, study.study_id)},
        ),
    )
    step, shown = 1, found
    if most is not None and len(found) > most and not spec.is_comparison:
        step, shown = _selection(found, most, also)
    versions = attributes.get(VERSIONS)
    view = StudyView(
        name=study.name,
        storage=study.db.url,
        spec=spec,
        dataset=facts,
        hardware=_text(attributes.get(HARDWARE)) or "unknown",
        versions={
            name: found
            for name, found in (versions.items() if isinstance(versions, dict) else ())
            if isinstance(found, str)
        },
        trials=_trial_views(study, spec, shown, leases),
        results=tuple(results_of(study.db, study.name)),
        left_out=None if len(shown) == len(found) else _left_out(study, found, shown, step),
    )
    # With the total that it has: a copy, or a study whose total was lowered, can have more.
    arms = len(spec.arms) or 1
    if view.finished > spec.trials:
        return replace(view, spec=spec.with_total(arms * math.ceil(view.finished / arms)))
    return view


def _text(stored: object) -> str | None:
    """An attribute as we write it; None for what others put in its place."""
    return stored if isinstance(stored, str) else None


def _size(stored: object) -> int | None:
    """A number of parameters as we write it."""
    return stored if type(stored) is int and 0 <= stored <= MOST_PARAMETERS else None


def _selection(
    trials: Sequence[FrozenTrial], most: int, also: Collection[int]
) -> tuple[int, list[FrozenTrial]]:
    """About `most` trials: a fifth each the best and the latest, running ones, and every nth.

    And each that a figure needs to be exact: every new best, and the Pareto front of loss and size.

    Returns:
        n, and the trials by number.
    """
    few = max(1, most // 5)
    step = math.ceil(len(trials) / (most - 2 * few))
    complete = [t for t in trials if t.state == TrialState.COMPLETE and t.values]
    by_loss = sorted(complete, key=_loss)
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    by_end = sorted(complete, key=lambda t: (t.datetime_complete, _loss(t)))
    sized = [trial for trial in complete if _size(trial.user_attrs.get(PARAMETERS)) is not None]
    by_size = sorted(sized, key=lambda t: (t.user_attrs[PARAMETERS], _loss(t)))
    special = [*by_loss[:few], *trials[-few:], *failed[-min(few, FAILED) :]]
    chosen = {t.number for t in (*special, *_records(by_end), *_records(by_size))} | set(also)
    return step, [
        trial
        for trial in trials
        if trial.number in chosen
        or trial.number % step == 0
        or trial.state == TrialState.RUNNING
        or OVERRIDES in trial.user_attrs
    ]


def _loss(trial: FrozenTrial) -> float:
    assert trial.values
    return float(trial.values[0])


def _records(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Those with a lower loss than all before."""
    found: list[FrozenTrial] = []
    for trial in trials:
        if not found or _loss(trial) < _loss(found[-1]):
            found.append(trial)
    return found


def _left_out(
    study: StudyHandle, trials: Iterable[FrozenTrial], shown: Iterable[FrozenTrial], step: int
) -> LeftOut:
    there = {trial.number for trial in shown}
    others = [trial for trial in trials if trial.number not in there]
    seconds = Counter[State]()
    for trial in others:
        spent = trial.user_attrs.get(SECONDS)
        if isinstance(spent, int | float):
            seconds[STATES[trial.state]] += spent  # type: ignore[assignment]
    return LeftOut(
        counts=Counter(STATES[trial.state] for trial in others),
        seconds=seconds,
        busy_seconds=_busy_seconds(study),
        step=step,
    )


def _busy_seconds(study: StudyHandle) -> float:
    """By the clock, while at least one trial was in training."""
    end = epochs.c.reported_at
    query = (
        select(end - epochs.c.seconds, end)
        .where(epochs.c.study_id == study.study_id, epochs.c.seconds > 0)
        .order_by(end - epochs.c.seconds)
    )
    busy, until = 0.0, -math.inf
    for start, stop in read(study.db, lambda connection: connection.execute(query).all()):
        busy += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return busy


def _trial_views(
    study: StudyHandle,
    spec: StudySpec,
    trials: Sequence[FrozenTrial],
    leases: Mapping[int, Row[Any]],
) -> tuple[TrialView, ...]:
    known = study.ended_views
    unknown = [trial for trial in trials if trial.number not in known]
    # Read after the trials: one that had ended by then has all of its own.
    rows: dict[int, list[EpochRow]] = {}
    for row in epochs_of(study.db, study.study_id, trials=[t.number for t in unknown]):
        rows.setdefault(row.trial_number, []).append(row)
    views = {}
    for trial in unknown:
        view = _trial_view(trial, spec, rows.get(trial.number, []))
        lease = leases.get(trial.number)
        if lease is not None:
            state: State = "interrupted" if is_abandoned(lease) else "running"
            attempt = (lease.abandonments or 0) + 1
            view = replace(view, state=state, worker=lease.worker, attempt=attempt)
        views[trial.number] = view
        if trial.state.is_finished():
            known[trial.number] = view
    return tuple(views.get(trial.number) or known[trial.number] for trial in trials)


def _trial_view(trial: FrozenTrial, spec: StudySpec, rows: list[EpochRow]) -> TrialView:
    attributes = trial.user_attrs
    try:
        config = suggest(trial, spec)
    except ValueError:  # parameters not suggested yet, or of a broken trial
        config = None
    arm, repeat = spec.place_of(trial.number) if spec.is_comparison else (None, None)
    return TrialView(
        number=trial.number,
        state=STATES[trial.state],
        params=true_params(trial, spec),
        config=config,
        parameters=_size(attributes.get(PARAMETERS)),
        curve=tuple(row for row in rows if row.epoch > 0),
        early_look=next((row for row in rows if row.epoch == 0), None),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        reason=_text(attributes.get(REASON)),
        is_baseline=OVERRIDES in attributes,
        arm=None if arm is None else arm.name,
        repeat=repeat,
    )
