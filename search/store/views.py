"""A study as it was when it was read: what every table, figure and page is made from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Row, and_, or_, select

from search.spec import space
from search.spec.config import WARM_START, Earlier, StudySpec, TrialConfig
from search.spec.domains import SpecError, choice_label
from search.spec.objectives import SIZES
from search.store.claims import is_abandoned, is_paused, running_trials
from search.store.database import read, transaction
from search.store.extensions import read_spec
from search.store.records import EpochRow, ResultRow, best_epoch, epochs_of, read_trials, results_of
from search.store.schema import (
    HARDWARE,
    REASON,
    STOPPED,
    VERSIONS,
    DatasetFacts,
    leases,
    numbered,
    stored_flat,
    trials,
)
from search.store.studies import StudyHandle, damage_in_a_line, load_facts

State = Literal["running", "paused", "interrupted", "complete", "pruned", "failed", "waiting"]
STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",  # or paused or interrupted, depending on its lease
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}
MOST = (10**12, 10**15)  # parameters, multiply-adds


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialView:
    """One trial.

    Attributes:
        state: Optuna's; running ones that no worker holds are `paused` if they were paused at a
            rung, else `interrupted`, and the next worker to claim a trial resumes one of those.
        params: as Optuna stores them, minus those that an older study's baseline did not have.
        overrides: searched parameters that it has in place of stored ones, see `OVERRIDES`.
        config: None if the parameters make no configuration (a trial that failed early).
        parameters, multiply_adds: trained weights and biases, work per image; None: unknown.
        curve: its finished epochs in order.
        partial_epoch: the partial-epoch validation inside the first epoch, if there was one.
        reason: why it failed.
        is_baseline: the hand-made model that the study starts with.
        worker: who holds it or held it last, see `search.store.claims`; None: it has ended.
        continued: the user asked to train it to its end.
        arm, repeat: for a comparison's trial: the arm's name, and the repeat index, from 0.
    """

    number: int
    state: State
    params: Mapping[str, Any]
    config: TrialConfig | None
    parameters: int | None
    curve: tuple[EpochRow, ...]
    partial_epoch: EpochRow | None
    started: datetime | None
    finished: datetime | None
    reason: str | None
    is_baseline: bool
    worker: str | None = None
    continued: bool = False
    multiply_adds: int | None = None
    arm: str | None = None
    repeat: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """Its searched parameters, wherever they are stored."""
        return {**self.params, **self.overrides}

    @property
    def best(self) -> EpochRow | None:
        """The epoch with the lowest value."""
        return best_epoch(self.curve)

    @property
    def reports(self) -> tuple[EpochRow, ...]:
        return self.curve if self.partial_epoch is None else (self.partial_epoch, *self.curve)

    @property
    def seconds(self) -> float:
        """Spent on training and validation."""
        return sum(row.seconds for row in self.reports)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyView:
    """A study: trials by number, and every test evaluation."""

    name: str
    storage: str  # without password
    spec: StudySpec
    dataset: DatasetFacts
    hardware: str
    versions: Mapping[str, str]
    trials: tuple[TrialView, ...]
    results: tuple[ResultRow, ...] = ()
    earlier: tuple[Earlier, ...] = ()
    stop_when_flat: float | None = None  # it ends when less than this gain is expected
    stopped: str | None = None  # why it ended that way; its total is then what it has

    def count(self, *states: State) -> int:
        """How many trials the study has in these states, or in total."""
        return len(self.in_state(*states) if states else self.trials)

    def in_state(self, *states: State) -> list[TrialView]:
        return [trial for trial in self.trials if trial.state in states]

    @property
    def finished(self) -> int:
        """What counts towards the study's total: complete or pruned, in a comparison failed too."""
        failed: tuple[State, ...] = ("failed",) if self.spec.is_comparison else ()
        return self.count("complete", "pruned", *failed)

    @property
    def leaderboard(self) -> list[TrialView]:
        """Complete trials, lowest value first."""
        return [one for one in self.ranking if one.state == "complete" and one.best is not None]

    @property
    def trained_far(self) -> list[TrialView]:
        """Trials that are complete or past half their epochs, lowest value first."""
        half = self.spec.epochs / 2
        far = (one for one in self.trials if one.state == "complete" or len(one.curve) >= half)
        return sorted((one for one in far if one.best is not None), key=_value)

    @property
    def ranking(self) -> list[TrialView]:
        """All trials: the complete ones, then the others, lowest value first."""
        return sorted(self.trials, key=lambda one: (one.state != "complete", _value(one)))

    @property
    def best(self) -> TrialView | None:
        return next(iter(self.leaderboard), None)

    @property
    def ahead(self) -> TrialView | None:
        """The unfinished trial whose value is already below that of every complete one."""
        best, others = self.best, self.in_state("running", "paused")
        leader = min((one for one in (best, *others) if one is not None), key=_value, default=None)
        return None if leader is None or leader is best or leader.best is None else leader

    @property
    def baseline(self) -> TrialView | None:
        return next((trial for trial in self.trials if trial.is_baseline), None)


def _value(trial: TrialView) -> float:
    best = trial.best
    return math.inf if best is None else best.value


def view_study(study: StudyHandle, *, only: int | None = None) -> StudyView:
    """Read the study as it is now. Trials that have ended are read only once per handle.

    `only`: the number of the only trial to read; nothing is kept then.
    """
    with study.told_if_gone(), transaction(study.db, read_only=True):
        attributes = study.study.user_attrs  # no retry: a view says at once what is wrong
    spec, facts = read_spec(study, attributes), load_facts(study, attributes)
    versions, flat = attributes.get(VERSIONS), stored_flat(attributes)
    stored = versions.items() if isinstance(versions, dict) else ()
    view = StudyView(
        name=study.name,
        storage=study.db.url,
        spec=spec,
        dataset=facts,
        hardware=_text(attributes.get(HARDWARE)) or "unknown",
        versions={name: found for name, found in stored if isinstance(found, str)},
        trials=_trial_views(study, spec, only),
        results=tuple(results_of(study)),
        earlier=load_earlier(study, attributes),
        stop_when_flat=None if flat is None else flat[0],
        stopped=_text(attributes.get(STOPPED)),
    )
    # Shown with the total that it has: a copy, or a study whose total was lowered, can have more
    # trials; one that is flat has fewer.
    arms = len(spec.arms) or 1
    if view.finished > spec.trials or (view.stopped and view.finished):
        return replace(view, spec=spec.with_total(arms * math.ceil(view.finished / arms)))
    return view


def load_earlier(study: StudyHandle, attributes: Mapping[str, Any]) -> tuple[Earlier, ...]:
    """What the study stores about earlier ones; raises `StorageError` if that is damaged."""
    with damage_in_a_line(study):
        return tuple(map(Earlier.from_dict, attributes.get(WARM_START, ())))


def _text(stored: object) -> str | None:
    """An attribute as we write it; None if others put something else in its place."""
    return stored if isinstance(stored, str) else None


def _trial_views(study: StudyHandle, spec: StudySpec, only: int | None) -> tuple[TrialView, ...]:
    known = study.ended_views if only is None else {}
    of_study = trials.c.study_id == study.study_id
    latest = max(known, default=-1)
    unended = set(range(latest)) - known.keys()
    again = select(trials.c.number, trials.c.datetime_complete).join(leases)
    again = again.where(of_study, or_(leases.c.token > 1, leases.c.paused.is_not(None)))

    def ask(connection: Connection) -> tuple[list[FrozenTrial], Mapping[int, Row[Any]]]:
        changed = [
            number
            for number, ended in connection.execute(again)
            if number in known and known[number].finished != ended
        ]
        new = or_(trials.c.number > latest, numbered([*unended, *changed]))
        wanted = new if only is None else trials.c.number == only
        found = read_trials(connection, and_(of_study, wanted))
        return found, {row.number: row for row in running_trials(connection, study.study_id)}

    found, held = read(study.db, ask)
    # Read after the trials, so that those that had ended by then have all their epochs.
    rows = defaultdict[int, list[EpochRow]](list)
    numbers = [trial.number for trial in found]
    for row in epochs_of(study.db, study.study_id, numbers=numbers, objective=spec.objective):
        rows[row.trial_number].append(row)
    views = dict(known)
    for trial in found:
        number = trial.number
        views[number] = _trial_view(trial, spec, tuple(rows[number]), held.get(number))
        if trial.state.is_finished():
            known[number] = views[number]
    return tuple(views[number] for number in sorted(views))


def _trial_view(
    trial: FrozenTrial, spec: StudySpec, rows: tuple[EpochRow, ...], lease: Row[Any] | None
) -> TrialView:
    try:
        config = space.suggest(trial, spec)
    except ValueError:  # parameters not suggested yet, or of a broken trial
        config = None
    state = STATES[trial.state]
    if lease is not None and (is_paused(lease) or is_abandoned(lease)):
        state = "paused" if is_paused(lease) else "interrupted"
    size, work = (
        found if type(found := trial.user_attrs.get(name)) is int and 0 <= found <= most else None
        for name, most in zip(SIZES, MOST, strict=True)
    )
    early = rows[:1] if rows and rows[0].epoch == 0 else ()
    arm, repeat = spec.place_of(trial.number) if spec.is_comparison else (None, None)
    return TrialView(
        number=trial.number,
        state=state,
        params=space.true_params(trial, spec),
        config=config,
        parameters=size,
        multiply_adds=work,
        curve=rows[len(early) :],
        partial_epoch=next(iter(early), None),
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        reason=_text(trial.user_attrs.get(REASON)),
        is_baseline=space.is_baseline(trial.user_attrs),
        worker=None if lease is None else lease.worker,
        continued=space.CONTINUED in trial.user_attrs,
        arm=None if arm is None else arm.name,
        repeat=repeat,
        overrides=_overrides(trial, spec),
    )


def _overrides(trial: FrozenTrial, spec: StudySpec) -> dict[str, Any]:
    """See `TrialView`; of a baseline, without what has no effect on it."""
    with suppress(SpecError):
        if own := space.overrides_of(trial.user_attrs, spec):
            asked = space.ENQUEUED in trial.user_attrs
            free = space.searched(spec).keys() - space.true_params(trial, spec).keys()
            kept = [n for n in own if n in free and (asked or space.matters(n, own, spec))]
            return {name: choice_label(own[name]) for name in kept}
    return {}
