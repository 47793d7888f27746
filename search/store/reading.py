"""Reads a study as it stands in the database."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Row, or_, select

from search.spec.config import StudySpec
from search.spec.space import OVERRIDES, suggest, true_params
from search.store.claims import is_abandoned, is_paused, running_trials
from search.store.database import read
from search.store.records import EpochRow, epochs_of, results_of
from search.store.schema import leases, trials
from search.store.studies import StudyHandle, load_facts, load_spec
from search.store.views import (
    HARDWARE,
    PARAMETERS,
    REASON,
    STATES,
    VERSIONS,
    State,
    StudyView,
    TrialView,
)

MOST_PARAMETERS = 10**12


def view_study(study: StudyHandle) -> StudyView:
    """Read the study as it is now. Trials that have ended are read once for each handle."""
    attributes = study.attributes
    spec, facts = load_spec(study, attributes), load_facts(study, attributes)
    found, held = read(
        study.db,
        lambda connection: (
            _trials(study, connection),
            {row.number: row for row in running_trials(connection, study.study_id)},
        ),
    )
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
        trials=_trial_views(study, spec, found, held),
        results=tuple(results_of(study.db, study.name)),
    )
    # With the total that it has: a copy, or a study whose total was lowered, can have more.
    arms = len(spec.arms) or 1
    if view.finished > spec.trials:
        return replace(view, spec=spec.with_total(arms * math.ceil(view.finished / arms)))
    return view


def _trials(study: StudyHandle, connection: Connection) -> list[FrozenTrial]:
    """All as they are now. Optuna remembers for good those that it has seen ended."""
    found = study.study.get_trials(deepcopy=False)
    again = select(trials.c.number, trials.c.trial_id, trials.c.datetime_complete).join(leases)
    of_study = trials.c.study_id == study.study_id
    again = again.where(of_study, or_(leases.c.token > 1, leases.c.paused.is_not(None)))
    taken_up = {number: rest for number, *rest in connection.execute(again)}
    for place, trial in enumerate(found):
        trial_id, ended = taken_up.get(trial.number, (None, None))
        if trial_id is not None and ended != trial.datetime_complete:
            found[place] = study.db.optuna.get_trial(trial_id)
    return found


def _text(stored: object) -> str | None:
    """An attribute as we write it; None for what others put in its place."""
    return stored if isinstance(stored, str) else None


def _size(stored: object) -> int | None:
    """A number of parameters as we write it."""
    return stored if type(stored) is int and 0 <= stored <= MOST_PARAMETERS else None


def _trial_views(
    study: StudyHandle,
    spec: StudySpec,
    found: Sequence[FrozenTrial],
    held: Mapping[int, Row[Any]],
) -> tuple[TrialView, ...]:
    known = study.ended_views
    unknown = [
        trial
        for trial in found
        if trial.number not in known or known[trial.number].finished != trial.datetime_complete
    ]
    # Read after the trials: one that had ended by then has all of its own.
    rows: dict[int, list[EpochRow]] = {}
    numbers = [trial.number for trial in unknown]
    for row in epochs_of(study.db, study.study_id, trials=numbers, objective=spec.objective):
        rows.setdefault(row.trial_number, []).append(row)
    views = {}
    for trial in unknown:
        view = _trial_view(trial, spec, rows.get(trial.number, []))
        lease = held.get(trial.number)
        if lease is not None:
            state: State = "interrupted" if is_abandoned(lease) else "running"
            state = "paused" if is_paused(lease) else state
            attempt = (lease.abandonments or 0) + 1
            view = replace(view, state=state, worker=lease.worker, attempt=attempt)
        views[trial.number] = view
        if trial.state.is_finished():
            known[trial.number] = view
    return tuple(views.get(trial.number) or known[trial.number] for trial in found)


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
