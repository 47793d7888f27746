"""What a free worker trains next: the study's rule, asked about what the database holds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.trial import TrialState
from sqlalchemy import Connection, select

from search.sampling.forecast import Contender, State, fit
from search.sampling.promotion import Front
from search.sampling.registry import Pruner, epoch_budget, find_pruner
from search.spec.config import StudySpec
from search.spec.space import runs_to_end
from search.store.claims import Choice
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
STATES: Mapping[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
}


@dataclass(frozen=True, slots=True)
class Chooser:
    """Asks the rule of one study; see `make_chooser`. Each answer is of the moment."""

    study: StudyHandle
    spec: StudySpec
    entry: Pruner
    choose: Callable[..., Choice]
    flat: Callable[[Connection], str | None] = lambda _: None
    _params: dict[int, dict[str, Any]] = field(default_factory=dict)  # by trial id; they stay
    _sizes: dict[int, float] = field(default_factory=dict)  # logarithms

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
            return not self.flat(connection) and self(connection, asking=number) == number

        return read(db, ask)

    def surplus(self) -> list[int]:
        """Paused trials beyond `KEPT` that have a checkpoint: those that promise least."""
        contenders = read(self.study.db, self.contenders)
        stored = [one for one in contenders if one.state == "paused" and max(one.curve) > 0]
        if len(stored) <= KEPT:
            return []
        forecast = fit(contenders, self.spec.epochs)
        ends = {it.number: end[0] for it in contenders if (end := forecast.estimate_final(it))}
        front = Front([(it.size, ends[it.number]) for it in contenders if it.number in ends])
        stored.sort(key=lambda it: ends.get(it.number, math.inf) - front.level(it.size))
        return [one.number for one in stored[KEPT:]]

    def contenders(self, connection: Connection, *, asking: int | None = None) -> list[Contender]:
        """All trials that were begun and have not failed, by number."""
        of_study = trials.c.study_id == self.study.study_id
        lease = leases.c.trial_id == trials.c.trial_id
        columns = (trials.c.trial_id, trials.c.number, trials.c.state)
        lease_columns = (leases.c.paused, leases.c.expires_at)
        found = connection.execute(
            select(*columns, *lease_columns)
            .outerjoin(leases, lease)
            .where(of_study, trials.c.state.in_(STATES))
            .order_by(trials.c.number)
        ).all()
        reports = trial_intermediate_values
        curves = defaultdict[int, dict[int, float]](dict)
        for trial_id, step, value in connection.execute(
            select(reports.c.trial_id, reports.c.step, reports.c.intermediate_value)
            .join(trials, trials.c.trial_id == reports.c.trial_id)
            .where(of_study)
            .order_by(reports.c.step)
        ):
            curves[trial_id][step] = math.nan if value is None else value
        trial_ids = [row.trial_id for row in found]
        self._read_params(connection, trial_ids)
        if self.spec.minimize_also:
            self._read_sizes(connection, trial_ids)
        return [
            Contender(
                number=row.number,
                state="paused"
                if row.number == asking
                or (row.state == TrialState.RUNNING and row.paused and row.expires_at is None)
                else STATES[row.state],
                params=self._params.get(row.trial_id, {}),
                curve=curves[row.trial_id],
                size=self._sizes.get(row.trial_id, 0.0),
            )
            for row in found
        ]

    def _read_params(self, connection: Connection, trial_ids: list[int]) -> None:
        unknown = [trial_id for trial_id in trial_ids if trial_id not in self._params]
        of_those = trial_params.c.trial_id.in_(unknown)
        for row in connection.execute(select(trial_params).where(of_those)):
            distribution = json_to_distribution(row.distribution_json)
            value = distribution.to_external_repr(row.param_value)
            self._params.setdefault(row.trial_id, {})[row.param_name] = value

    def _read_sizes(self, connection: Connection, trial_ids: list[int]) -> None:
        stored = trial_user_attributes.c
        unknown = [trial_id for trial_id in trial_ids if trial_id not in self._sizes]
        named = stored.trial_id.in_(unknown), stored.key == self.spec.minimize_also
        for row in connection.execute(select(trial_user_attributes).where(*named)):
            self._sizes[row.trial_id] = math.log(max(int(row.value_json), 1))


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
    return Chooser(study, spec, entry, entry.choose, flat or (lambda _: None))
