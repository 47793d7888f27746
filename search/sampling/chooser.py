"""Chooses what a free worker trains next, and which trials continue, pause or stop.

The study's rule is applied to what the database holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, and_, or_, select

from models.checks import shown
from search.sampling.forecast import LEAST, Contender, estimates_of
from search.sampling.priors import as_recorded, prior_for, recorded_parameters
from search.sampling.promotion import Front
from search.sampling.registry import epoch_budget, find_pruner, make_pruner
from search.spec.config import StudySpec
from search.spec.space import lies_in_space, runs_to_end, values_of
from search.store.claims import Choice, is_paused, running_trials
from search.store.database import read, transaction, with_retry
from search.store.leases import Lease
from search.store.records import read_trials
from search.store.schema import DATASET, epochs, leases, numbered, trials
from search.store.studies import StudyHandle
from search.store.views import STATES

# States of trials that say something about their configuration.
TELLING = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
# Paused trials to keep: with checkpoints, and with only a partial-epoch validation.
KEPT, KEPT_WITHOUT = 20, 200
AT_ONCE = 100  # are dropped per transaction: a study made by an older version may have thousands


def least_told(attributes: Mapping[str, Any]) -> float:
    """See `Contender.least`: half a mistake on all the validation images of a study.

    A network without any mistake on them can still make some on others.
    """
    count = attributes.get(DATASET, {}).get("validation_count")
    return 0.5 / count if count else LEAST


def contender_of(
    trial: FrozenTrial, spec: StudySpec, usual: Mapping[str, Any], least: float = LEAST
) -> Contender:
    """A started trial; Optuna cannot tell whether a running one is paused.

    `usual`: from `recorded_parameters`. `least`: from `least_told`.
    """
    size, work = map(trial.user_attrs.get, (spec.minimize_also or "", "multiply_adds"))
    params = values_of(trial, spec)
    return Contender(
        number=trial.number,
        state=STATES[trial.state],
        params=params,
        recorded=as_recorded(params, usual),
        curve=trial.intermediate_values,
        least=least,
        size=math.log(size) if type(size) is int and size > 0 else 0.0,
        work=work if type(work) is int else 0,
        in_space=lies_in_space(trial, spec),
    )


@dataclass(frozen=True, slots=True)
class Chooser:
    """Applies the rule of one study; see `make_chooser`. Each answer holds only at that moment."""

    contenders: Contenders
    choose: Callable[..., Choice]
    rungs: Sequence[int]
    flat: Callable[[Connection], str | None] | None

    def __call__(self, connection: Connection, *, asking: int | None = None) -> Choice:
        """A paused trial's number, "new", or None if nothing is worth training.

        The trial with the number `asking` counts as paused.
        """
        spec, begun = self.contenders.spec, self.contenders.begun(connection)
        found = [it for it in begun if it.state != "failed"]
        lost = sum(it.epochs for it in begun) - sum(it.epochs for it in found)
        budget = epoch_budget(spec)
        assert budget is not None  # its pruner pauses trials
        return self.choose(
            [replace(it, state="paused") if it.number == asking else it for it in found],
            trials=spec.trials,
            epochs=spec.epochs,
            budget=budget - lost,
            prior=prior_for(spec.dataset),
        )

    def goes_on(self, lease: Lease, epoch: int) -> bool:
        """Whether the trial of a held lease continues after a reported epoch.

        Raises StorageError if the database was unavailable.
        """
        if epoch not in self.rungs:
            return True
        db, number = self.contenders.study.db, lease.trial_number

        def ask(connection: Connection) -> bool:
            if runs_to_end(db.optuna.get_trial_user_attrs(lease.trial_id)):
                return True
            if self.flat is not None and self.flat(connection):
                return False
            return self(connection, asking=number) == number

        return read(db, ask)

    def surplus(self) -> list[int]:
        """The least promising paused trials, beyond `KEPT` with a checkpoint and `KEPT_WITHOUT`
        without, so that disk use, database rows and the cost of a choice stay bounded.
        """
        spec, contenders = self.contenders.spec, read(self.contenders.study.db, self.contenders)
        paused = [one for one in contenders if one.state == "paused"]
        stored = [one for one in paused if max(one.curve) > 0]
        others = [one for one in paused if max(one.curve) == 0]
        if len(stored) <= KEPT and len(others) <= KEPT_WITHOUT:
            return []
        estimates = estimates_of(contenders, spec.epochs, prior_for(spec.dataset))
        ends = {number: mean for number, (mean, _) in estimates.items()}
        front = Front([(it.size, ends[it.number]) for it in contenders if it.number in ends])

        def behind(one: Contender) -> float:
            return ends.get(one.number, math.inf) - front.level(one.size)

        least = [*sorted(stored, key=behind)[KEPT:], *sorted(others, key=behind)[KEPT_WITHOUT:]]
        return [one.number for one in least[-AT_ONCE:]]


class Contenders:
    """Reads the state of a study's trials from the tables: Optuna would keep each in full.

    An ended trial is read once, and again if it has been claimed since.
    """

    def __init__(self, study: StudyHandle, spec: StudySpec) -> None:
        self.study, self.spec, self._usual = study, spec, recorded_parameters(spec)
        self._least = least_told(study.attributes)
        self._ended: dict[int, Contender] = {}  # by number
        self._resumed: set[tuple[int, int]] = set()  # (number, token): those claimed repeatedly
        self._unended: set[int] = set()  # seen at the last read
        self._latest = -1

    def __call__(self, connection: Connection) -> list[Contender]:
        """The informative ones: as `begun`, without failed trials."""
        return [it for it in self.begun(connection) if it.state != "failed"]

    def begun(self, connection: Connection) -> list[Contender]:
        """All started trials, by number."""
        running = running_trials(connection, self.study.study_id)
        paused = {row.number for row in running if is_paused(row)}
        of_study = trials.c.study_id == self.study.study_id
        again = select(trials.c.number, leases.c.token).join(leases)
        again = again.where(of_study, leases.c.token > 1)
        resumed = {(row.number, row.token) for row in connection.execute(again)}
        unread = self._unended | {row.number for row in running}
        unread |= {number for number, _ in resumed - self._resumed}
        changed = numbered([number for number in unread if number <= self._latest])
        new = and_(of_study, or_(changed, trials.c.number > self._latest))
        found, open_ones = read_trials(connection, new), []
        for trial in found:
            self._ended.pop(trial.number, None)
            if trial.state == TrialState.WAITING:
                continue
            one = contender_of(trial, self.spec, self._usual, self._least)
            if one.state != "running":
                self._ended[one.number] = one
            else:
                open_ones.append(replace(one, state="paused") if one.number in paused else one)
        self._unended = {it.number for it in found if not it.state.is_finished()}
        self._resumed = resumed
        self._latest = max([self._latest, *(trial.number for trial in found)])
        return sorted([*self._ended.values(), *open_ones], key=lambda one: one.number)


def make_chooser(
    contenders: Contenders, flat: Callable[[Connection], str | None] | None = None
) -> Chooser | None:
    """The study's chooser; None if its pruner never pauses trials.

    Once `flat`, see `claim`, gives a reason, no trial continues from a rung. Raises SpecError if
    there is no pruner of that name.
    """
    entry = find_pruner(contenders.spec.pruner)
    if entry.choose is None:
        return None
    return Chooser(contenders, entry.choose, entry.rungs(contenders.spec.epochs), flat)


def should_prune(study: StudyHandle, spec: StudySpec, lease: Lease, epoch: int) -> bool:
    """Whether the study's pruner stops a trial for good after a reported epoch.

    Epoch 0 is the partial-epoch validation. Raises StorageError if the database was unavailable,
    SpecError for a pruner that cannot be made, TypeError for a rule's answer that is no bool.
    """
    entry = find_pruner(spec.pruner)
    if epoch not in entry.rungs(spec.epochs):
        return False
    pruner, storage = make_pruner(spec), study.db.optuna
    # One index query; Optuna's pruners would read all trials.
    query = select(epochs.c.trial_id, epochs.c.best_validation_loss).where(
        epochs.c.study_id == lease.study_id, epochs.c.epoch == epoch
    )

    def attempt() -> bool:
        if runs_to_end(storage.get_trial_user_attrs(lease.trial_id)):
            return False
        if isinstance(pruner, BasePruner):
            return pruner.prune(study.study, storage.get_trial(lease.trial_id))
        with transaction(study.db, read_only=True) as connection:
            found = connection.execute(query).all()
        lowest = {it.trial_id: math.nan if it[1] is None else it[1] for it in found}
        own = lowest.pop(lease.trial_id, None)
        stops = own is not None and pruner(epoch, own, list(lowest.values()))
        if not isinstance(stops, bool | np.bool_):
            what = f"the rule of pruner {spec.pruner!r} must return True or False"
            raise TypeError(f"{what}, but got {shown(stops)}")
        return bool(stops)

    return with_retry(study.db, attempt)
