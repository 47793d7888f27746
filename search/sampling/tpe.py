"""Optuna's TPE with a memory of the trials that have ended.

Optuna's sampler goes through all trials and all their parameters in Python each time it draws;
beside a thousand trials that took longer than all else that a trial costs. Here what there is to
know of a trial that has ended is put into arrays once. The draws are the same, to the bit: a test
compares them.

One thing can be changed: in a study with our own pruner, which trials are the good ones is what its
rungs say (`search.sampling.halving.best_first`). Optuna puts every completed trial, however bad,
before every stopped one; of the few that complete, one is the baseline and some had no rivals.

Arrays have a row for each trial that was completed or pruned (T), in the order in which they became
known, and a column for each parameter (P).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import default_gamma
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from search.sampling.halving import best_first, losses_at_rungs
from search.sampling.parzen import Floats, log_density

_RELEVANT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
Integers = NDArray[np.int64]
Shown = Callable[[], list[FrozenTrial]]


class Memory:
    """What TPE needs of one study's ended trials; samplers made one after the other share it.

    The study minimises one value, without constraints.

    Args:
        rungs: of our own pruner, by which trials are then ordered; None for Optuna's order.
    """

    def __init__(self, rungs: Sequence[int] | None = None) -> None:
        self._rungs = rungs
        self.search_space = IntersectionSearchSpace(include_pruned=True)
        self._known: set[int] = set()
        self._columns: dict[str, int] = {}
        self._numbers_T: Integers = np.empty(0, dtype=np.int64)
        self._merits_TM: Floats = np.empty((0, 3 if rungs is None else len(rungs) + 1))
        self._values_TP: Floats = np.empty((0, 0))

    def learn(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Take in those that have ended since; returns the ones that have not ended.

        Those that are not among `trials` any more are forgotten.
        """
        self._forget_all_but({trial.number for trial in trials})
        unknown = [trial for trial in trials if trial.number not in self._known]
        ended = [trial for trial in unknown if trial.state.is_finished()]
        if ended:
            for trial in ended:
                for name in trial.params:
                    self._columns.setdefault(name, len(self._columns))
            more_TP = np.full((len(ended), len(self._columns)), math.nan)
            for row_P, trial in zip(more_TP, ended, strict=True):
                for name, value in trial.params.items():
                    row_P[self._columns[name]] = trial.distributions[name].to_internal_repr(value)
            numbers = [trial.number for trial in ended]
            wider = ((0, 0), (0, len(self._columns) - self._values_TP.shape[1]))
            old_TP = np.pad(self._values_TP, wider, constant_values=math.nan)
            self._values_TP = np.concatenate([old_TP, more_TP])
            merits = [self._merit(trial) for trial in ended]
            self._merits_TM = np.concatenate([self._merits_TM, merits])
            self._numbers_T = np.concatenate([self._numbers_T, numbers])
            self._known.update(numbers)
        return [trial for trial in unknown if not trial.state.is_finished()]

    def _forget_all_but(self, numbers: set[int]) -> None:
        if self._known <= numbers:
            return
        kept_T = np.isin(self._numbers_T, list(numbers))
        self._numbers_T, self._merits_TM = self._numbers_T[kept_T], self._merits_TM[kept_T]
        self._values_TP = self._values_TP[kept_T]
        self._known &= numbers

    def split(self) -> tuple[Integers, Integers]:
        """Rows of the good trials and of the others, each by number."""
        if self._rungs is not None:
            order = best_first(self._merits_TM, self._rungs)
        else:
            state, progress, loss = self._merits_TM.T
            order = np.lexsort((self._numbers_T, loss, progress, state))
        good = default_gamma(len(order))
        return self._by_number(order[:good]), self._by_number(order[good:])

    def _merit(self, trial: FrozenTrial) -> Sequence[float]:
        if self._rungs is None:
            return _optunas_merit(trial)
        return losses_at_rungs(trial, self._rungs)

    def _by_number(self, rows: Integers) -> Integers:
        return rows[np.argsort(self._numbers_T[rows])]

    def ended(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Values of these parameters and merits of all ended trials, by number; (T, P), (T, M)."""
        rows = self._by_number(np.arange(len(self._numbers_T)))
        return self.values(rows, names), self._merits_TM[rows]

    def numbers(self, rows: Integers) -> Integers:
        return self._numbers_T[rows]

    def values(self, rows: Integers, names: Sequence[str]) -> Floats:
        """Of these parameters, in Optuna's internal form; NaN where a trial lacks one."""
        if not set(names) <= self._columns.keys():
            return np.full((len(rows), len(names)), math.nan)
        return self._values_TP[rows][:, [self._columns[name] for name in names]]


def _optunas_merit(trial: FrozenTrial) -> tuple[float, float, float]:
    """Sorts as Optuna's TPE does: complete trials by value, then pruned ones by how far they came.

    Among those that came equally far, by their last value.
    """
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return 0.0, 0.0, trial.value
    if not trial.intermediate_values:
        return 1.0, 1.0, 0.0
    step, value = max(trial.intermediate_values.items())
    return 1.0, -float(step), math.inf if math.isnan(value) else value


class RememberingTPESampler(TPESampler):
    """Draws what `optuna.samplers.TPESampler` would.

    Args:
        shown: the trials to learn from, by number; None: all of the study.
    """

    def __init__(
        self, memory: Memory, *, seed: int, n_startup_trials: int, shown: Shown | None = None
    ) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials)
        self._shown = shown
        self._memory = memory
        self._search_space = memory.search_space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        # Read anew, once: `_sample` follows at once. None: all, by Optuna.
        study._thread_local.cached_all_trials = None if self._shown is None else self._shown()
        return super().infer_relative_search_space(study, trial)

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        running = self.learn(self._memory, study, trial)
        good, others = self._memory.split()
        names = list(search_space)
        # Optuna's "constant liar": what is running counts as bad, so that workers spread out.
        values_TP = self._memory.values(others, names)
        numbers_T = self._memory.numbers(others)
        for other in running:
            row_P = self.row(study, other, search_space)
            place = np.searchsorted(numbers_T, other.number)
            values_TP = np.insert(values_TP, place, row_P, axis=0)
            numbers_T = np.insert(numbers_T, place, other.number)
        below = self._estimator(self._memory.values(good, names), search_space)
        above = self._estimator(values_TP, search_space)
        candidates = below.sample(self._rng.rng, self._n_ei_candidates)
        merits = log_density(below, candidates) - log_density(above, candidates)
        chosen = self._compare(candidates, merits)
        return {
            name: distribution.to_external_repr(chosen[name])
            for name, distribution in search_space.items()
        }

    @staticmethod
    def learn(memory: Memory, study: optuna.Study, trial: FrozenTrial) -> list[FrozenTrial]:
        """Have the memory take in what has ended; returns what runs beside the trial."""
        trials = study._get_trials(deepcopy=False, states=_RELEVANT, use_cache=True)
        return [other for other in memory.learn(trials) if other.number != trial.number]

    def row(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> list[float]:
        """The trial's parameters in Optuna's internal form; NaN where it has none yet."""
        params = self._get_params(trial, study)
        return [
            distribution.to_internal_repr(params[name]) if name in params else math.nan
            for name, distribution in search_space.items()
        ]

    def _estimator(
        self, values_TP: Floats, search_space: dict[str, BaseDistribution]
    ) -> _ParzenEstimator:
        complete_TP = values_TP[~np.isnan(values_TP).any(axis=1)]
        observations = dict(zip(search_space, complete_TP.T, strict=True))
        return _ParzenEstimator(observations, search_space, self._parzen_estimator_parameters)
