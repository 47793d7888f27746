"""Reads a study as it stands in the database: all of a short one, a bounded part of a long one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import optuna
from optuna.trial import FrozenTrial

from models.checks import is_count
from search.spec.config import StudySpec
from search.spec.space import OVERRIDES, suggest, true_params
from search.store.claims import is_abandoned, running_trials
from search.store.frozen_trials import trials_by_id
from search.store.history import EpochRow, epochs_of_trials, results_of
from search.store.selection import Selection, select_trials
from search.store.storage import Database, snapshot, with_retry
from search.store.view import (
    HARDWARE,
    MOST,
    PARAMETERS,
    REASON,
    STATES,
    VERSIONS,
    LeftOut,
    State,
    StudyView,
    TrialView,
    load_facts,
    load_spec,
)


def view_study(
    db: Database, study: optuna.Study, *, most: int | None = MOST, also: Collection[int] = ()
) -> StudyView:
    """Read the study as it is now.

    Asked again with the same `study`, it reads the trials that have not ended, and those that ended
    since: a live view would otherwise take long for each look.

    Args:
        most: trials to read one by one; None: all. A comparison is always read whole.
        also: numbers of trials to read in any case.
    """
    spec, facts = load_spec(study), load_facts(study)
    selection = _select(db, study, None if spec.is_comparison else most, also)
    shown = _view_trials(db, study, spec, selection.trial_ids)
    view = StudyView(
        name=study.study_name,
        storage=db.url,
        spec=spec,
        dataset=facts,
        hardware=_text(study.user_attrs.get(HARDWARE)) or "unknown",
        versions=_texts(study.user_attrs.get(VERSIONS)),
        trials=shown,
        results=tuple(results_of(db, study.study_name)),
        left_out=None if selection.totals is None else _left_out(selection, shown),
    )
    return replace(view, spec=_with_room_for(view.finished, spec))


def _with_room_for(finished: int, spec: StudySpec) -> StudySpec:
    """With the total that it has: a copy, or a study whose total was lowered, can have more."""
    arms = len(spec.arms) or 1
    return spec if finished <= spec.trials else spec.with_total(arms * math.ceil(finished / arms))


def _text(stored: object) -> str | None:
    """An attribute as we write it; None for what others put in its place."""
    return stored if isinstance(stored, str) else None


def _texts(stored: object) -> dict[str, str]:
    if not isinstance(stored, dict):
        return {}
    return {name: value for name, value in stored.items() if isinstance(value, str)}


def _select(
    db: Database, study: optuna.Study, most: int | None, also: Collection[int]
) -> Selection:
    def attempt() -> Selection:
        with snapshot(db) as connection:
            return select_trials(
                connection, study._study_id, most, also=also, marked=OVERRIDES, sized=PARAMETERS
            )

    return with_retry(db, attempt)


def _left_out(selection: Selection, shown: Iterable[TrialView]) -> LeftOut:
    totals = selection.totals
    assert totals is not None
    counts = {STATES[state]: n for state, n in totals.counts.items()}
    seconds = {STATES[state]: spent for state, spent in totals.seconds.items()}
    for trial in shown:
        state: State = "running" if trial.state == "interrupted" else trial.state
        counts[state] = counts.get(state, 0) - 1
        seconds[state] = seconds.get(state, 0.0) - trial.seconds
    # What a trial ended as meanwhile may be shown otherwise than it was counted.
    return LeftOut(
        counts={state: max(0, n) for state, n in counts.items()},
        seconds={state: max(0.0, spent) for state, spent in seconds.items()},
        busy_seconds=totals.busy_seconds,
        step=selection.step,
    )


# Of each study that was viewed, by trial id: nothing changes in a trial that has ended.
_ended = WeakKeyDictionary[optuna.Study, dict[int, TrialView]]()


def _view_trials(
    db: Database,
    study: optuna.Study,
    spec: StudySpec,
    trial_ids: Sequence[int],
) -> tuple[TrialView, ...]:
    known = _ended.get(study, {})
    known = {trial_id: known[trial_id] for trial_id in trial_ids if trial_id in known}
    unknown = [trial_id for trial_id in trial_ids if trial_id not in known]
    # First the trials and then their epochs: one that had ended by then has all of its own.
    fresh = _read(db, unknown)
    rows: dict[int, list[EpochRow]] = {}
    for row in epochs_of_trials(db, unknown):
        rows.setdefault(row.trial_id, []).append(row)
    views = [_view_trial(trial, spec, rows.get(trial._trial_id, [])) for trial in fresh]
    started = {view.number: view for view in views if view.state == "running"}
    held = _held_or_interrupted(db, study, started) if started else {}
    known |= {view.trial_id: held.get(view.number, view) for view in views}
    ended = ("complete", "pruned", "failed")
    _ended[study] = {key: view for key, view in known.items() if view.state in ended}
    return tuple(sorted(known.values(), key=lambda view: view.number))


def _read(db: Database, trial_ids: Sequence[int]) -> list[FrozenTrial]:
    def attempt() -> list[FrozenTrial]:
        with snapshot(db) as connection:
            return trials_by_id(connection, trial_ids)

    return with_retry(db, attempt)


def _held_or_interrupted(
    db: Database, study: optuna.Study, views: Mapping[int, TrialView]
) -> dict[int, TrialView]:
    """The running ones with their workers; those without are interrupted."""

    def attempt() -> dict[int, TrialView]:
        with snapshot(db) as connection:
            leases = running_trials(connection, study._study_id)
        return {
            row.number: replace(
                views[row.number],
                state="interrupted" if is_abandoned(row) else "running",
                worker=row.worker,
            )
            for row in leases
            if row.number in views
        }

    return with_retry(db, attempt)


def _view_trial(trial: FrozenTrial, spec: StudySpec, rows: list[EpochRow]) -> TrialView:
    attributes = trial.user_attrs
    try:
        config = suggest(trial, spec)
    except ValueError:  # parameters not suggested yet, or of a broken trial
        config = None
    parameters = attributes.get(PARAMETERS)  # counting takes torch
    arm, repeat = spec.place_of(trial.number) if spec.is_comparison else (None, None)
    return TrialView(
        trial_id=trial._trial_id,
        number=trial.number,
        state=STATES[trial.state],
        params=true_params(trial, spec),
        config=config,
        parameters=parameters if is_count(parameters) else None,
        curve=tuple(row for row in rows if row.epoch > 0),
        early_look=next((row for row in rows if row.epoch == 0), None),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        reason=_text(attributes.get(REASON)),
        is_baseline=OVERRIDES in attributes,
        arm=None if arm is None else arm.name,
        repeat=repeat,
        system_attributes=trial.system_attrs,
    )
