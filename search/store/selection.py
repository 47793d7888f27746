"""Which trials of a long study are looked at one by one, and what all of them come to.

A study of a few hundred trials is read whole. Of ten thousand nobody looks at each: chosen are the
best and the latest ones, those that are running, one in so many of all, and each that a figure
needs to be exact (every new best, and the Pareto front of loss and size).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
)

from search.store.tables import epochs, trial_values, trials
from search.store.tables import trial_user_attributes as attributes

FAILED = 100  # trials that are told with their reasons

_mine = trials.c.study_id == bindparam("of_study")
_complete = and_(_mine, trials.c.state == TrialState.COMPLETE)
_most = bindparam("most", type_=Integer)
# Built once: SQLAlchemy takes longer to build a statement than to run it.
_ids = select(trials.c.trial_id).where(_mine)
_running = _ids.where(trials.c.state == TrialState.RUNNING)
_failed = (
    _ids.where(trials.c.state == TrialState.FAIL).order_by(trials.c.trial_id.desc()).limit(_most)
)
_latest = _ids.order_by(trials.c.trial_id.desc()).limit(_most)
_valued = (
    select(trials.c.trial_id)
    .join(trial_values, trial_values.c.trial_id == trials.c.trial_id)
    .where(_complete, trial_values.c.objective == 0)
)
_best = _valued.order_by(trial_values.c.value, trials.c.trial_id).limit(_most)
_each_in_so_many = _ids.where(
    or_(
        trials.c.number % bindparam("step") == 0,
        trials.c.number.in_(bindparam("also", expanding=True)),
    )
)
_marked = (
    select(trials.c.trial_id)
    .join(attributes, attributes.c.trial_id == trials.c.trial_id)
    .where(_mine, attributes.c.key == bindparam("of_key"))
)


def _lower_than_all_before(
    valued: Select[tuple[int]], order: ColumnElement[Any]
) -> Select[tuple[int]]:
    """Of complete trials in this order, the ids of those with a lower value than any before."""
    value = trial_values.c.value
    before = func.min(value).over(order_by=[order, value, trials.c.trial_id], rows=(None, -1))
    found = valued.add_columns(value.label("value"), before.label("before")).subquery()
    is_new = or_(found.c.before.is_(None), found.c.value < found.c.before)
    return select(found.c.trial_id).where(is_new)


_new_bests = _lower_than_all_before(_valued, trials.c.datetime_complete)
_pareto_front = _lower_than_all_before(
    _valued.join(attributes, attributes.c.trial_id == trials.c.trial_id).where(
        attributes.c.key == bindparam("of_key")
    ),
    cast(attributes.c.value_json, Double),
)

_counts = select(trials.c.state, func.count()).where(_mine).group_by(trials.c.state)
_seconds = (
    select(trials.c.state, func.sum(epochs.c.seconds))
    .join(epochs, epochs.c.trial_id == trials.c.trial_id)
    .where(_mine)
    .group_by(trials.c.state)
)
_start, _end = epochs.c.reported_at - epochs.c.seconds, epochs.c.reported_at
_spans = (
    select(
        _start.label("start"),
        _end.label("end"),
        func.max(_end).over(order_by=[_start, _end], rows=(None, -1)).label("until"),
    )
    .where(epochs.c.study_id == bindparam("of_study"), epochs.c.seconds > 0)
    .subquery()
)
# Each span counts from where all before it have ended.
_busy = select(
    func.sum(
        case(
            (
                or_(_spans.c.until.is_(None), _spans.c.until < _spans.c.start),
                _spans.c.end - _spans.c.start,
            ),
            (_spans.c.until < _spans.c.end, _spans.c.end - _spans.c.until),
            else_=0.0,
        )
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """Of all trials of a study, exactly.

    Attributes:
        counts, seconds: by state; seconds of training and validation, added up over trials.
        busy_seconds: by the clock, while at least one trial was in training.
    """

    counts: Mapping[TrialState, int]
    seconds: Mapping[TrialState, float]
    busy_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Ids of trials in their order; of a study that is short enough all.

    Attributes:
        step: those trials whose number it divides stand for all; the others were chosen for what
            they are.
        totals: None where the ids are all there are.
    """

    trial_ids: tuple[int, ...]
    step: int = 1
    totals: Totals | None = None


def select_trials(
    connection: Connection,
    study_id: int,
    most: int | None,
    *,
    also: Collection[int],
    marked: str,
    sized: str,
) -> Selection:
    """All trials of a study, or about `most` of them: a fifth each the best and the latest.

    Args:
        most: None for all.
        also: numbers of trials that are wanted in any case.
        marked: so are trials that have this user attribute.
        sized: user attribute with the size for the Pareto front.
    """
    study = {"of_study": study_id}
    if most is None:
        return Selection(trial_ids=tuple(sorted(connection.scalars(_ids, study))))
    newest = latest(connection, study_id, most + 1)
    if len(newest) <= most:
        return Selection(trial_ids=tuple(sorted(newest)))
    totals = _totals(connection, study_id)
    few = max(1, most // 5)
    step = -(-sum(totals.counts.values()) // (most - 2 * few))
    chosen = {
        *newest[:few],
        *best(connection, study_id, few),
        *running(connection, study_id),
        *connection.scalars(_failed, {**study, "most": min(few, FAILED)}),
        *connection.scalars(_each_in_so_many, {**study, "step": step, "also": list(also)}),
        *connection.scalars(_marked, {**study, "of_key": marked}),
        *connection.scalars(_new_bests, study),
        *connection.scalars(_pareto_front, {**study, "of_key": sized}),
    }
    return Selection(trial_ids=tuple(sorted(chosen)), step=step, totals=totals)


def latest(connection: Connection, study_id: int, most: int) -> list[int]:
    """Ids of the trials begun last, the latest first."""
    return list(connection.scalars(_latest, {"of_study": study_id, "most": most}))


def best(connection: Connection, study_id: int, most: int) -> list[int]:
    """Ids of the complete trials with the lowest values, the best first."""
    return list(connection.scalars(_best, {"of_study": study_id, "most": most}))


def running(connection: Connection, study_id: int) -> list[int]:
    """Ids of the trials that have begun and not ended."""
    return list(connection.scalars(_running, {"of_study": study_id}))


def _totals(connection: Connection, study_id: int) -> Totals:
    study = {"of_study": study_id}
    return Totals(
        counts=dict(tuple(row) for row in connection.execute(_counts, study)),
        seconds={state: found or 0.0 for state, found in connection.execute(_seconds, study)},
        busy_seconds=connection.scalar(_busy, study) or 0.0,
    )
