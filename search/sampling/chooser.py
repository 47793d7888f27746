"""Chooses what a free worker trains next: the study's rule, applied to what the database holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, and_, or_

from search.sampling.forecast import Contender, State, fit, informative
from search.sampling.priors import as_recorded, prior_for, recorded_parameters
from search.sampling.promotion import Front
from search.sampling.registry import Pruner, epoch_budget, find_pruner
from search.spec.config import StudySpec
from search.spec.domains import SpecError, choice_label
from search.spec.space import base_values, lies_in_space, overrides_of, runs_to_end, searched
from search.store.claims import Choice, is_paused, running_trials
from search.store.database import read
from search.store.leases import Lease
from search.store.records import read_trials
from search.store.schema import trials
from search.store.studies import StudyHandle

# Paused trials to keep: with checkpoints, and with only a partial-epoch validation.
KEPT, KEPT_WITHOUT = 20, 200
AT_ONCE = 100  # are dropped per transaction: a study made by an older version may have thousands
STATES: Mapping[TrialState, State] = {  # of started trials
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def values_of(trial: FrozenTrial, spec: StudySpec) -> dict[str, Any]:
    """A trial's parameters as Optuna stores them, also those with which it leaves the space.

    Trials with equal ones train the same configuration.
    """
    found = dict(trial.params)
    with suppress(SpecError):  # malformed: it makes no configuration
        if overrides := overrides_of(trial.user_attrs, spec):
            open_ones, usual = searched(spec), base_values(spec)
            kept = {n: it for n, it in overrides.items() if n in open_ones or it != usual[n]}
            found |= {name: choice_label(value) for name, value in kept.items()}
    return found


def contender_of(trial: FrozenTrial, spec: StudySpec, usual: Mapping[str, Any]) -> Contender:
    """A trial in one of STATES; Optuna cannot tell whether a running one is paused.

    `usual`: from `recorded_parameters`.
    """
    size = trial.user_attrs.get(spec.minimize_also or "")
    params = values_of(trial, spec)
    return Contender(
        number=trial.number,
        state=STATES[trial.state],
        params=params,
        recorded=as_recorded(params, usual),
        curve=trial.intermediate_values,
        size=math.log(size) if type(size) is int and size > 0 else 0.0,
        in_space=lies_in_space(trial, spec),
    )


@dataclass(slots=True)
class Chooser:
    """Applies the rule of one study; see `make_chooser`. Each answer holds only at that moment."""

    study: StudyHandle
    spec: StudySpec
    entry: Pruner
    choose: Callable[..., Choice]
    contenders: Contenders
    flat: Callable[[Connection], str | None] | None

    def __call__(self, connection: Connection, *, asking: int | None = None) -> Choice:
        """A paused trial's number, "new", or None if nothing is worth training.

        Args:
            asking: number of a trial that counts as paused.
        """
        spec = self.spec
        return self.choose(
            self.contenders(connection, asking=asking),
            trials=spec.trials,
            epochs=spec.epochs,
            budget=epoch_budget(spec),
            prior=prior_for(spec.dataset),
        )

    def goes_on(self, lease: Lease, epoch: int) -> bool:
        """Whether the trial of a held lease continues after a reported epoch.

        Raises:
            StorageError: the database was unavailable.
        """
        if epoch not in self.entry.rungs(self.spec.epochs):
            return True
        db, number = self.study.db, lease.trial_number

        def ask(connection: Connection) -> bool:
            attributes = db.optuna.get_trial_user_attrs(lease.trial_id)
            if runs_to_end(attributes):
                return True
            if self.flat is not None and self.flat(connection):
                return False
            return self(connection, asking=number) == number

        return read(db, ask)

    def surplus(self) -> list[int]:
        """The least promising paused trials, beyond `KEPT` with a checkpoint and `KEPT_WITHOUT`
        without, so that disk use, database rows and the cost of a choice stay bounded.
        """
        contenders = read(self.study.db, self.contenders)
        paused = [one for one in contenders if one.state == "paused"]
        stored = [one for one in paused if max(one.curve) > 0]
        others = [one for one in paused if max(one.curve) == 0]
        if len(stored) <= KEPT and len(others) <= KEPT_WITHOUT:
            return []
        told = informative(contenders)
        estimates = fit(told, self.spec.epochs, prior_for(self.spec.dataset)).estimates(told)
        ends = {number: mean for number, (mean, _) in estimates.items()}
        front = Front([(it.size, ends[it.number]) for it in told if it.number in ends])

        def behind(one: Contender) -> float:
            return ends.get(one.number, math.inf) - front.level(one.size)

        least = [*sorted(stored, key=behind)[KEPT:], *sorted(others, key=behind)[KEPT_WITHOUT:]]
        return [one.number for one in least[-AT_ONCE:]]


@dataclass(slots=True)
class Contenders:
    """Reads the state of a study's trials from the tables: Optuna would keep each in full.

    An ended trial is read once; if it resumes (`leases.revive`), it is noticed because it runs. A
    paused one is also read once, until a worker claims it.
    """

    study: StudyHandle
    spec: StudySpec
    _usual: Mapping[str, Any] = field(init=False)
    _ended: dict[int, Contender] = field(default_factory=dict)  # by number, like the next two
    _paused: dict[int, tuple[int, Contender]] = field(default_factory=dict)  # with lease's token
    _unended: set[int] = field(default_factory=set)  # seen at the last read
    _latest: int = -1

    def __post_init__(self) -> None:
        self._usual = recorded_parameters(self.spec)

    def __call__(self, connection: Connection, *, asking: int | None = None) -> list[Contender]:
        """The informative ones: as `begun`, without failed trials."""
        return [it for it in self.begun(connection, asking=asking) if it.state != "failed"]

    def begun(self, connection: Connection, *, asking: int | None = None) -> list[Contender]:
        """All started trials, by number; `asking`: see `Chooser`."""
        running = running_trials(connection, self.study.study_id)
        tokens = {row.number: row.token for row in running if is_paused(row)}
        known = {it for it, (token, _) in self._paused.items() if tokens.get(it) == token}
        unread = (self._unended | {row.number for row in running}) - known
        changed = trials.c.number.in_([number for number in unread if number <= self._latest])
        of_study = trials.c.study_id == self.study.study_id
        new = and_(of_study, or_(changed, trials.c.number > self._latest))
        found, open_ones = read_trials(connection, new), []
        for trial in found:
            self._ended.pop(trial.number, None)
            self._paused.pop(trial.number, None)
            if trial.state not in STATES:
                continue
            one = contender_of(trial, self.spec, self._usual)
            if one.state != "running":
                self._ended[one.number] = one
            elif one.number in tokens:
                self._paused[one.number] = tokens[one.number], replace(one, state="paused")
            else:
                open_ones.append(replace(one, state="paused") if one.number == asking else one)
        self._unended = known | {it.number for it in found if not it.state.is_finished()}
        self._latest = max([self._latest, *(trial.number for trial in found)])
        paused = [one for _, one in self._paused.values()]
        return sorted([*self._ended.values(), *paused, *open_ones], key=lambda one: one.number)


def make_chooser(
    contenders: Contenders, flat: Callable[[Connection], str | None] | None = None
) -> Chooser | None:
    """The study's chooser; None if its pruner never pauses trials.

    Args:
        flat: see `claim`; once it gives a reason, no trial continues from a rung.

    Raises:
        SpecError: there is no pruner of that name.
    """
    study, spec = contenders.study, contenders.spec
    entry = find_pruner(spec.pruner)
    if entry.choose is None:
        return None
    return Chooser(study, spec, entry, entry.choose, contenders, flat)
