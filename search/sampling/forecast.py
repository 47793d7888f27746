"""Where a trial will end: its final objective, forecast from its curve and its parameters so far.

For each rung, a Bayesian linear regression of the fall that is still to come (in the logarithm of
the objective) on the level at the rung, and on what the trial's parameters promise: how fast such
networks learn and how late regularised ones overtake, as learned on recorded curves of other data
sets (`python -m benchmarks.prior`). How far the promises hold is learned from every trial of the
study that went on from the rung, in closed form: a prior that is wrong here does not hurt for long.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from search.sampling import halving
from search.sampling.priors import Array, features, read_prior
from search.spec.recipe import EARLY_LOOK

State = Literal["running", "paused", "complete", "pruned", "failed"]
SEED_SD = 0.03  # of the logarithm of a final objective: what another seed would change
SPREAD_COUNTS = 5  # trials that the prior's spread counts as
NOISES = np.geomspace(1 / 33, 33, 9)  # variances of the noise, as multiples of the prior's
# How much data sets differ in the mean fall, in what the level says, in how far promises hold.
DIFFER = (1.5, 0.3, 0.7)
MOST = 100  # best and latest trials of a long study


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """What is known of one trial that has begun.

    Attributes:
        params: as Optuna stores them.
        curve: its objective by report; 0 is the partial-epoch validation. Empty before the first.
        size: logarithm of what its study lowers beside the objective; 0 where that is nothing.
        in_space: what it trains with is of its study's space.
    """

    number: int
    state: State
    params: Mapping[str, Any]
    curve: Mapping[int, float]
    size: float = 0.0
    in_space: bool = True

    @property
    def epochs(self) -> float:
        """Trained so far."""
        last = max(self.curve, default=None)
        return 0.0 if last is None else last or EARLY_LOOK

    def level(self, rung: float = math.inf) -> float:
        """Logarithm of the lowest objective up to a rung; NaN where there is none."""
        seen = [it for epoch, it in self.curve.items() if epoch <= rung and math.isfinite(it)]
        return math.log(max(min(seen), 1e-12)) if seen else math.nan


def informative(trials: Sequence[Contender]) -> Sequence[Contender]:
    """Of a long study its best trials, its latest, and those that run or pause.

    So the cost of a forecast is bounded. Where sizes count as well, all: none is best by itself.
    """
    if len(trials) <= 2 * MOST or any(one.size for one in trials):
        return trials
    return best_and_latest(trials, lambda one: one.state in ("running", "paused"))


def best_and_latest(
    trials: Sequence[Contender], keep: Callable[[Contender], bool]
) -> list[Contender]:
    """All that are to be kept, and of the others MOST of each kind."""
    reported = [one for one in trials if one.curve and not keep(one)]
    best = nsmallest(MOST, reported, key=lambda one: min(one.curve.values()))
    chosen = {one.number for one in (*best, *trials[-MOST:])}
    return [one for one in trials if one.number in chosen or keep(one)]


@dataclass(frozen=True, slots=True)
class Regression:
    """Linear, with a normal belief about F coefficients under each of S variances of the noise.

    How noisy a data set is differs far more between data sets than a conjugate prior grants it.

    Attributes:
        means, precisions: of the coefficients, (S, F) and (S, F, F).
        variances, log_weights: of the noise, and how likely each is, (S,).
    """

    means: Array
    precisions: Array
    variances: Array
    log_weights: Array

    @classmethod
    def believed(cls, mean_F: Array, sd_F: Array, noise: float) -> Regression:
        """Before the first observation, whose noise may have NOISES times the variance `noise`."""
        means, precisions = (np.stack([it] * len(NOISES)) for it in (mean_F, np.diag(sd_F**-2.0)))
        return cls(means, precisions, noise * NOISES, np.zeros(len(NOISES)))

    def updated(self, x_NF: Array, y_N: Array) -> Regression:
        """After N more observations (Bishop 2006, "Pattern recognition", sections 3.3 and 3.5)."""
        precisions = self.precisions + x_NF.T @ x_NF / self.variances[:, None, None]
        pull = np.einsum("sfg,sg->sf", self.precisions, self.means)
        pulled = pull + x_NF.T @ y_N / self.variances[:, None]
        means = np.linalg.solve(precisions, pulled[..., None])[..., 0]
        left = np.sum(self.means * pull - means * pulled, 1) + y_N @ y_N / self.variances
        narrowed = np.linalg.slogdet(precisions)[1] - np.linalg.slogdet(self.precisions)[1]
        evidence = -(len(y_N) * np.log(self.variances) + narrowed + left) / 2
        return Regression(means, precisions, self.variances, self.log_weights + evidence)

    def predict(self, x_NF: Array) -> tuple[Array, Array]:
        """Mean and variance of each observation, (N,) both."""
        weights = np.exp(self.log_weights - self.log_weights.max())
        weights = weights / np.sum(weights)
        means_SN = self.means @ x_NF.T
        mean_N = weights @ means_SN
        uncertain_SN = np.einsum("nf,sfg,ng->sn", x_NF, np.linalg.inv(self.precisions), x_NF)
        spread_SN = self.variances[:, None] + uncertain_SN
        return mean_N, weights @ (spread_SN + (means_SN - mean_N) ** 2)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Fitted to one study.

    Attributes:
        spread: standard deviation of the levels at the first rung: the unit of the regressions.
        center: mean level at each rung.
        promised: by rung, how the fall depends on the parameters elsewhere, (F,).
        models: by rung, of the fall on 1, the level, and the promised fall.
    """

    spread: float
    center: Mapping[int, float]
    promised: Mapping[int, Array]
    models: Mapping[int, Regression]

    def estimate_final(self, trial: Contender) -> tuple[float, float] | None:
        """See `estimates`; None as long as no finite objective was reported."""
        return self.estimates([trial]).get(trial.number)

    def estimates(self, trials: Iterable[Contender]) -> dict[int, tuple[float, float]]:
        """By number: mean and standard deviation of the final (lowest) objective's logarithm."""
        found = {}
        at_rung = defaultdict[int, list[Contender]](list)
        for one in trials:
            if math.isnan(level := one.level()):
                continue
            if one.state == "complete":
                found[one.number] = level, SEED_SD
            elif past := [it for it in self.models if it <= max(one.curve)]:
                at_rung[max(past)].append(one)
        for rung, there in at_rung.items():
            x_N3, level_N = self.inputs(there, rung)
            mean_N, variance_N = self.models[rung].predict(x_N3)
            end_N = np.minimum([one.level() for one in there], level_N + mean_N * self.spread)
            ends = zip(end_N.tolist(), (np.sqrt(variance_N) * self.spread).tolist(), strict=True)
            found |= zip((one.number for one in there), ends, strict=True)
        return found

    def inputs(self, trials: Sequence[Contender], rung: int) -> tuple[Array, Array]:
        """Of the rung's regression, (N, 3), and the trials' levels there, (N,)."""
        level_N = np.array([one.level(rung) for one in trials])
        features_NF = np.array([features(one.params) for one in trials])
        relative_N = (level_N - self.center[rung]) / self.spread
        columns = np.ones(len(trials)), relative_N, features_NF @ self.promised[rung]
        return np.stack(columns, 1), level_N


def fit(trials: Iterable[Contender], epochs: int, prior: Path | None) -> Forecast:
    """Learn from all trials of a study, whose maximum is `epochs` epochs each.

    Args:
        prior: see `read_prior`.
    """
    known = [one for one in trials if one.params and not math.isnan(one.level())]
    table, rungs = read_prior(prior), halving.rungs(epochs)
    firsts = [level for one in known if not math.isnan(level := one.level(rungs[0]))]
    weight = len(firsts) / (len(firsts) + SPREAD_COUNTS)
    observed = float(np.var(firsts)) if firsts else 0.0
    spread = max(math.sqrt(weight * observed + (1 - weight) * table.spread**2), 1e-3)
    center: dict[int, float] = {}
    promised: dict[int, Array] = {}
    models: dict[int, Regression] = {}
    forecast = Forecast(spread, center, promised, models)
    for rung in reversed(rungs):
        there = [one for one in known if max(one.curve) >= rung and not math.isnan(one.level(rung))]
        center[rung] = float(np.mean([one.level(rung) for one in there])) if there else 0.0
        fraction = (rung or EARLY_LOOK) / epochs
        promised[rung] = np.array([table.at(fraction, column) for column in table.promised.T])
        start = [table.at(fraction, column) for column in (table.falls, table.level)]
        noise = table.at(fraction, table.noise) ** 2
        model = Regression.believed(np.array([*start, 1.0]), np.array(DIFFER), noise)
        ended = [one for one in there if one.state == "complete"]
        later = min(models, default=math.inf)
        further = [it for it in there if it.state != "complete" and max(it.curve) >= later]
        if ended or further:
            estimates = forecast.estimates(further)
            known_ends = [(one.level(), 0.0) for one in ended]  # an estimate counts less
            end_N, sd_N = np.array([*known_ends, *(estimates[it.number] for it in further)]).T
            trust_N = np.sqrt(noise / (noise + (sd_N / spread) ** 2))
            x_N3, level_N = forecast.inputs([*ended, *further], rung)
            y_N = (end_N - level_N) / spread
            model = model.updated(trust_N[:, None] * x_N3, trust_N * y_N)
        models[rung] = model
    return forecast
