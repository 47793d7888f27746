"""What a free worker trains next: the study's rule, asked about what the database holds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, Select, TableClause, and_, or_, select

from search.sampling.forecast import Contender, State, fit, informative
from search.sampling.priors import prior_for
from search.sampling.promotion import Front
from search.sampling.registry import Pruner, epoch_budget, find_pruner
from search.spec.config import StudySpec
from search.spec.space import runs_to_end
from search.store.claims import Choice, is_paused
from search.store.database import read
from search.store.leases import Lease
from search.store.schema import (
    leases,
    trial_intermediate_values,
    trial_params,
    trial_user_attributes,
    trials,
)
from search.store.studies import StudyHandle

KEPT = 20  # paused trials that keep their checkpoints
# Of the trials that tell something: those that have begun and have not failed.
STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
}


def contender_of(trial: FrozenTrial) -> Contender:
    """A trial in one of STATES; Optuna cannot tell whether a running one is paused."""
    return Contender(
        number=trial.number,
        state=STATES[trial.state],
        params=trial.params,
        curve=trial.intermediate_values,
    )


@dataclass(slots=True)
class Chooser:
    """Asks the rule of one study; see `make_chooser`. Each answer is of the moment."""

    study: StudyHandle
    spec: StudySpec
    entry: Pruner
    choose: Callable[..., Choice]
    contenders: Contenders
    flat: Callable[[Connection], str | None] | None

    def __call__(self, connection: Connection, *, asking: int | None = None) -> Choice:
        """A paused trial's number, "new", or None where nothing is worth training.

        Args:
            asking: number of a trial that is to count as paused.
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
        """Whether a trial that is held trains on after an epoch that was reported.

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
        """Paused trials beyond `KEPT` that have a checkpoint: those that promise least."""
        contenders = read(self.study.db, self.contenders)
        stored = [one for one in contenders if one.state == "paused" and max(one.curve) > 0]
        if len(stored) <= KEPT:
            return []
        told = informative(contenders)
        estimates = fit(told, self.spec.epochs, prior_for(self.spec.dataset)).estimates(told)
        ends = {number: mean for number, (mean, _) in estimates.items()}
        front = Front([(it.size, ends[it.number]) for it in told if it.number in ends])
        stored.sort(key=lambda it: ends.get(it.number, math.inf) - front.level(it.size))
        return [one.number for one in stored[KEPT:]]


@dataclass(slots=True)
class Contenders:
    """Reads what a study's trials have come to.

    One that has ended is read once; if it goes on (`leases.revive`), that is seen as it runs.
    """

    study: StudyHandle
    spec: StudySpec
    _ended: dict[int, Contender] = field(default_factory=dict)  # by trial id
    _unended: set[int] = field(default_factory=set)  # ids that were there at the last look
    _latest: int = -1  # id; a study's trials are made one after the other

    def __call__(self, connection: Connection, *, asking: int | None = None) -> list[Contender]:
        """All trials that were begun and have not failed, by number; `asking`: see `Chooser`."""
        unended = or_(trials.c.state == TrialState.RUNNING, trials.c.trial_id.in_(self._unended))
        of_study = trials.c.study_id == self.study.study_id
        new = and_(of_study, or_(unended, trials.c.trial_id > self._latest))
        found = connection.execute(
            select(trials.c.trial_id, trials.c.number, trials.c.state)
            .add_columns(leases.c.paused, leases.c.expires_at)
            .outerjoin(leases, leases.c.trial_id == trials.c.trial_id)
            .where(new)
        ).all()
        curves = defaultdict[int, dict[int, float]](dict)
        for row in connection.execute(_of(trial_intermediate_values, new)):
            value = row.intermediate_value
            curves[row.trial_id][row.step] = math.nan if value is None else value
        params = defaultdict[int, dict[str, Any]](dict)
        for row in connection.execute(_of(trial_params, new)):
            distribution = json_to_distribution(row.distribution_json)
            params[row.trial_id][row.param_name] = distribution.to_external_repr(row.param_value)
        sizes = self._read_sizes(connection, new) if self.spec.minimize_also else {}
        running = []
        for row in found:
            self._ended.pop(row.trial_id, None)
            if row.state not in STATES:
                continue
            is_running = row.state == TrialState.RUNNING
            paused = row.number == asking or (is_running and is_paused(row))
            one = Contender(
                number=row.number,
                state="paused" if paused else STATES[row.state],
                params=params[row.trial_id],
                curve=dict(sorted(curves[row.trial_id].items())),
                size=sizes.get(row.trial_id, 0.0),
            )
            if is_running:
                running.append(one)
            else:
                self._ended[row.trial_id] = one
        self._unended = {row.trial_id for row in found if not row.state.is_finished()}
        self._latest = max([self._latest, *(row.trial_id for row in found)])
        return sorted([*self._ended.values(), *running], key=lambda one: one.number)

    def _read_sizes(self, connection: Connection, new: ColumnElement[bool]) -> dict[int, float]:
        """Logarithms."""
        query = _of(trial_user_attributes, new)
        query = query.where(trial_user_attributes.c.key == self.spec.minimize_also)
        return {
            row.trial_id: math.log(max(int(row.value_json), 1)) for row in connection.execute(query)
        }


def _of(table: TableClause, condition: ColumnElement[bool]) -> Select[Any]:
    """Its rows of the trials that meet the condition."""
    return select(table).join(trials, trials.c.trial_id == table.c.trial_id).where(condition)


def make_chooser(
    study: StudyHandle, spec: StudySpec, flat: Callable[[Connection], str | None] | None = None
) -> Chooser | None:
    """None where the study's rule lays no trial aside.

    Args:
        flat: see `claim`; then no trial goes on from a rung.

    Raises:
        SpecError: there is no pruner of that name.
    """
    entry = find_pruner(spec.pruner)
    if entry.choose is None:
        return None
    return Chooser(study, spec, entry, entry.choose, Contenders(study, spec), flat)
