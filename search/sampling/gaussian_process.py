"""Bayesian optimisation for the first hundred trials of a study, where it learns most from each.

A Gaussian process (Rasmussen & Williams 2006) models how good a configuration is in the end, and
the next one is where the expected improvement (Jones et al. 1998) is largest. TPE only tells good
trials from others, a few from many; the process uses all their losses, and knows which parameters
matter. Its cost grows with the cube of the trials, so that from `MODELLED_TRIALS` on TPE goes on.

Most trials are stopped early. What they would have come to is estimated from those that were not:
by how much their losses still fell from one rung to the next, on average, and how unevenly.

T trials, P parameters, F features, C candidates, R rungs of the pruner and the end.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from search.sampling.halving import losses_at_rungs
from search.sampling.parzen import Floats
from search.sampling.tpe import Memory, RememberingTPESampler, Shown

MODELLED_TRIALS = 100  # at so many a draw takes a tenth of a second
LEAST_TRIALS = 8  # with a whole epoch: fewer are too few for a model
RANDOM_CANDIDATES, PARENTS, CHILDREN = 400, 3, 100
STEP = 0.15  # standard deviation by which children differ, as a share of a parameter's range
CHANGED = 0.5  # share of the parameters in which they do
UNLIKE = 0.5  # of two choices' one-hot features; their distance is then 0.7 of a range
SEED_NOISE = 0.03  # of the logarithm of a final loss: what another seed would make of it
UNKNOWN_NOISE = 0.05  # what a rung adds to that as long as too few have passed it to tell
HIGHEST = 2.5  # standard deviations: how bad the worst ones are is of no interest


class GaussianProcessSampler(RememberingTPESampler):
    """Draws by the largest expected improvement; leaves what it does not model to TPE.

    Those are the first trials, which TPE draws at random, parameters that not all trials have, and
    trials from `MODELLED_TRIALS` on.

    Args:
        rungs: of the pruner, whose losses are compared.
        losses: a memory made with `rungs`; may be TPE's own.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        losses: Memory,
        memory: Memory,
        *,
        seed: int,
        n_startup_trials: int,
        shown: Shown | None = None,
    ) -> None:
        super().__init__(memory, seed=seed, n_startup_trials=n_startup_trials, shown=shown)
        self._rungs, self._losses = rungs, losses
        self._dice = np.random.default_rng(seed)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        found = None
        if search_space and trial.number < MODELLED_TRIALS:
            found = self._draw(study, trial, search_space)
        return super().sample_relative(study, trial, search_space) if found is None else found

    def _draw(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any] | None:
        """None where too little is known for a model."""
        running = self.learn(self._losses, study, trial)
        values_TP, losses_TR = self._losses.ended(list(search_space))
        ended = len(values_TP)
        others = [self.row(study, other, search_space) for other in running]
        reports = [losses_at_rungs(other, self._rungs) for other in running]
        values_TP = np.concatenate([values_TP, np.reshape(others, (-1, len(search_space)))])
        losses_TR = np.concatenate([losses_TR, np.reshape(reports, (-1, losses_TR.shape[1]))])
        ends_T, noises_T = estimated_ends(losses_TR, self._rungs)
        complete = ~np.isnan(values_TP).any(axis=1)
        known = complete & ~np.isnan(ends_T)
        if known.sum() < LEAST_TRIALS:
            return None
        pending = complete & ~known & (np.arange(len(known)) >= ended)
        cube = _Cube(search_space)
        parents = values_TP[known][np.argsort(ends_T[known], kind="stable")[:PARENTS]]
        candidates_CP = cube.candidates(parents, self._dice)
        merits_C = expected_improvement(
            cube.features(values_TP[known]),
            ends_T[known],
            noises_T[known],
            pending_AF=cube.features(values_TP[pending]),
            candidates_CF=cube.features(candidates_CP),
        )
        tried_C = (candidates_CP[:, None] == values_TP).all(axis=2).any(axis=1)
        best_P = candidates_CP[np.argmax(np.where(tried_C, -1, merits_C))]
        return {
            name: distribution.to_external_repr(value)
            for (name, distribution), value in zip(search_space.items(), best_P, strict=True)
        }


def estimated_ends(losses_TR: Floats, rungs: Sequence[int]) -> tuple[Floats, Floats]:
    """The logarithm of each trial's loss at its end, and how uncertain it is, (T,) both.

    NaN for a trial without a whole epoch: a loss inside the first one says little.

    Args:
        losses_TR: from `search.sampling.halving.losses_at_rungs`.
    """
    compared = [column for column, rung in enumerate(rungs) if rung > 0]
    logs_TR = np.log(np.maximum(losses_TR[:, [*compared, -1]], 1e-12))
    finite = logs_TR[np.isfinite(logs_TR)]
    logs_TR[np.isposinf(logs_TR)] = finite.max() if len(finite) else 0.0
    ends_T, noises_T = logs_TR[:, -1].copy(), np.full(len(logs_TR), SEED_NOISE)
    change, variance = 0.0, SEED_NOISE**2
    for column in range(logs_TR.shape[1] - 2, -1, -1):
        changes = logs_TR[:, column + 1] - logs_TR[:, column]
        changes = changes[~np.isnan(changes)]
        change += changes.mean() if len(changes) else 0.0
        variance += changes.var(ddof=1) if len(changes) > 2 else UNKNOWN_NOISE**2
        last = np.isnan(ends_T) & ~np.isnan(logs_TR[:, column])
        ends_T[last] = logs_TR[last, column] + change
        noises_T[last] = math.sqrt(variance)
    return ends_T, noises_T


def expected_improvement(
    known_TF: Floats,
    values_T: Floats,
    noises_T: Floats,
    *,
    pending_AF: Floats,
    candidates_CF: Floats,
) -> Floats:
    """By how much each candidate is expected to be below the best known one; (C,).

    Args:
        values_T: the lower the better, with a standard deviation of `noises_T`.
        pending_AF: being tried, result unknown: taken to come out as the model expects, so that
            others are tried elsewhere (the "Kriging believer", Ginsbourger et al. 2010).
    """
    # Loaded when first used: a second.
    from scipy.stats import norm
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel
    from threadpoolctl import threadpool_limits

    centre, spread = values_T.mean(), values_T.std() + 1e-6
    scaled_T = np.minimum((values_T - centre) / spread, HIGHEST)
    alpha_T = (noises_T / spread) ** 2 + 1e-4
    kernel = ConstantKernel(1.0, (0.1, 30.0)) * RBF(np.ones(known_TF.shape[1]), (0.2, 20.0))
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: no influence
        process = GaussianProcessRegressor(kernel, alpha=alpha_T).fit(known_TF, scaled_T)
        expected_A = np.empty(0)
        if len(pending_AF):
            expected_A = process.predict(pending_AF)
            process = GaussianProcessRegressor(
                process.kernel_,
                alpha=np.concatenate([alpha_T, np.full(len(pending_AF), 1e-4)]),
                optimizer=None,
            ).fit(np.concatenate([known_TF, pending_AF]), np.concatenate([scaled_T, expected_A]))
        best = min(process.predict(known_TF).min(), expected_A.min(initial=math.inf))
        mean_C, deviation_C = process.predict(candidates_CF, return_std=True)
    deviation_C = np.maximum(deviation_C, 1e-9)
    z_C = (best - mean_C) / deviation_C
    merits: Floats = deviation_C * (z_C * norm.cdf(z_C) + norm.pdf(z_C))
    return merits


class _Cube:
    """A search space as features in [0, 1], and candidates in it.

    Values are Optuna's internal ones: numbers, and for a choice its index.
    """

    def __init__(self, search_space: Mapping[str, BaseDistribution]) -> None:
        self._axes = [_axis(distribution) for distribution in search_space.values()]

    def features(self, values_TP: Floats) -> Floats:
        columns = [axis.features(x_T) for axis, x_T in zip(self._axes, values_TP.T, strict=True)]
        return np.concatenate(columns, axis=1)

    def candidates(self, parents_AP: Floats, rng: np.random.Generator) -> Floats:
        """At random anywhere, and near the given ones; (C, P)."""
        anywhere = [axis.draw(RANDOM_CANDIDATES, rng) for axis in self._axes]
        near_CP = np.repeat(parents_AP, CHILDREN, axis=0)
        for x_C, axis in zip(near_CP.T, self._axes, strict=True):
            changed = rng.random(len(x_C)) < CHANGED
            x_C[changed] = axis.move(x_C[changed], rng)
        return np.concatenate([np.stack(anywhere, axis=1), near_CP])


class _Choices:
    def __init__(self, count: int) -> None:
        self._count = count

    def features(self, x_T: Floats) -> Floats:
        return UNLIKE * np.eye(self._count)[x_T.astype(np.int64)]

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        return rng.integers(self._count, size=count).astype(np.float64)

    def move(self, x_C: Floats, rng: np.random.Generator) -> Floats:
        """Half of them, to any choice."""
        return np.where(rng.random(len(x_C)) < CHANGED, self.draw(len(x_C), rng), x_C)


class _Numbers:
    """A range, on its logarithm where it is searched so; `step` 0: continuous."""

    def __init__(self, low: float, high: float, step: float, *, log: bool) -> None:
        self._low, self._high, self._step, self._log = low, high, step, log
        self._ends = (math.log(low), math.log(high)) if log else (low, high)
        steps = round((high - low) / step) if step and not log else 0
        self._steps = steps if 0 < steps * STEP <= 1 else 0  # few: neighbours are a step apart

    def features(self, x_T: Floats) -> Floats:
        return self._unit(x_T)[:, None]

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        if self._steps:
            return self._value(rng.integers(self._steps + 1, size=count) / self._steps)
        return self._value(rng.random(count))

    def move(self, x_C: Floats, rng: np.random.Generator) -> Floats:
        if self._steps:
            away_C = rng.integers(-1, 2, size=len(x_C)) / self._steps
        else:
            away_C = STEP * rng.standard_normal(len(x_C))
        unit_C = np.abs(self._unit(x_C) + away_C)  # thrown back at the ends
        return self._value(np.clip(1 - np.abs(1 - unit_C), 0, 1))

    def _unit(self, x_T: Floats) -> Floats:
        low, high = self._ends
        scaled: Floats = (np.log(x_T) if self._log else x_T) - low
        return scaled / (high - low) if high > low else scaled

    def _value(self, unit_C: Floats) -> Floats:
        low, high = self._ends
        x_C: Floats = low + unit_C * (high - low)
        x_C = np.exp(x_C) if self._log else x_C
        if self._step:
            x_C = self._low + self._step * np.round((x_C - self._low) / self._step)
        return np.clip(x_C, self._low, self._high)


def _axis(distribution: BaseDistribution) -> _Choices | _Numbers:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return _Choices(len(choices))
        case IntDistribution() | FloatDistribution():
            return _Numbers(
                distribution.low, distribution.high, distribution.step or 0.0, log=distribution.log
            )
        case _:
            raise AssertionError(f"no axis for {distribution}")
