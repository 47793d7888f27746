"""Forecasts a trial's final objective from its parameters and its curve so far.

Each rung has a Bayesian linear regression of the fall still to come (in the logarithm of the
objective) on the level at the rung and on the trial's parameters: how fast such networks learn and
how late regularised ones overtake. Its prior comes from recorded curves of other data sets
(`python -m benchmarks.prior`) and how much those differ; it is updated in closed form with every
trial of the study that continued from the rung. For what no such trial has tried, the prior stands.

Data sets differ most in scale: how far apart configurations end. In units of that scale, parameters
have similar effects. The scale, the noise, and whether the prior holds at all are unknown when a
study begins: each rung weights HYPOTHESES about them by how well they predicted its trials.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from heapq import nsmallest
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from search.sampling import halving
from search.sampling.priors import Array, features, read_prior
from search.sampling.regression import Regression
from search.spec.recipe import PARTIAL_EPOCH
from search.store.views import State

SEED_SD = 0.03  # of the logarithm of a final objective: what another seed would change
# Scales (of the logarithm of a final objective), noise deviations as multiples of the prior's, and
# how far its predictions from parameters hold: every combination of them is a hypothesis.
SCALES = np.geomspace(0.05, 1.6, 8)
NOISES = (0.25, 0.5, 1.0, 2.0)
TRUSTS = {1.0: 0.9, 0.0: 0.1}  # with the prior probability of each
HYPOTHESES = np.array(list(product(SCALES, NOISES, TRUSTS)))
UNTOLD_SD = 0.5  # of a parameter's effect, in scales, if the prior does not hold
START_SD = 0.7  # of what the prior does not explain of first levels, in their standard deviations
LEAST = 1e-12  # objective, if the number of validation images is unknown
MOST = 40  # of the best and of the latest trials of a long study


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """The state of one started trial, as the sampler and the pruner see it."""

    number: int
    state: State
    params: Mapping[str, Any]  # that not all trials share, see `search.spec.space.values_of`
    recorded: Mapping[str, Any]  # that the prior knows, see `search.sampling.priors.as_recorded`
    curve: Mapping[int, float]  # its objective by epoch; 0: the partial-epoch validation
    size: float = 0.0  # logarithm of what its study minimises besides the objective
    work: int = 0  # multiply-adds of its network for one image; 0: unknown
    in_space: bool = True  # whether its configuration lies in its study's space
    least: float = LEAST  # lower objectives count as this one, because only chance tells them apart

    @property
    def epochs(self) -> float:
        """Trained so far."""
        last = max(self.curve, default=None)
        return 0.0 if last is None else last or PARTIAL_EPOCH

    def level(self, rung: float = math.inf) -> float:
        """Logarithm of the lowest objective up to a rung; NaN if there is none.

        As in a trial's value, a partial epoch does not count beside whole ones.
        """
        whole = [it for epoch, it in self.curve.items() if 0 < epoch <= rung]
        seen = [it for it in whole or [self.curve.get(0, math.nan)] if math.isfinite(it)]
        return math.log(max(min(seen), self.least)) if seen else math.nan


def informative(trials: Sequence[Contender]) -> Sequence[Contender]:
    """The best and the latest trials of a long study, plus all that are running or paused.

    This bounds the cost of a forecast.
    """
    if len(trials) <= 2 * MOST:
        return trials
    return best_and_latest(trials, lambda one: one.state in ("running", "paused"))


def best_and_latest(
    trials: Sequence[Contender], keep: Callable[[Contender], bool]
) -> list[Contender]:
    """All trials to keep, plus up to MOST of the best and of the latest."""
    reported = [one for one in trials if one.curve and not keep(one)]
    chosen = {one.number for one in (*_best(reported), *trials[-MOST:])}
    return [one for one in trials if one.number in chosen or keep(one)]


def _best(reported: Sequence[Contender]) -> Sequence[Contender]:
    """The MOST with the lowest objectives. If sizes count as well, whole Pareto fronts of both: the
    first, the next without it, and so on, until there are MOST."""
    leveled = [(one.size, level, one) for one in reported if not math.isnan(level := one.level())]
    if not any(one.size for one in reported):
        return [one for *_, one in nsmallest(MOST, leveled, key=lambda each: each[1])]
    left, found = sorted(leveled, key=lambda each: each[:2]), list[Contender]()
    while left and len(found) < MOST:
        beaten, least = list[tuple[float, float, Contender]](), math.inf
        for size, level, one in left:
            if level < least:
                least = level
                found.append(one)
            else:
                beaten.append((size, level, one))
        left = beaten
    return found


@dataclass(frozen=True, slots=True)
class Forecast:
    """The regressions fitted to one study.

    Attributes:
        center: mean level at each rung.
        models: by rung, of the fall on 1, the level, and the parameters' features.
        ends: of the end of a curve, minus the mean of the known ends, on 1 and the features only.
    """

    center: Mapping[int, float]
    models: Mapping[int, Regression]
    ends: Regression

    def estimates(self, trials: Iterable[Contender]) -> dict[int, tuple[float, float]]:
        """By number: mean and standard deviation of the final (lowest) objective's logarithm.

        Only of trials that have reported a finite objective.
        """
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
            x_NF, level_N = self.inputs(there, rung)
            mean_N, variance_N = self.models[rung].predict(x_NF)
            end_N = np.minimum([one.level() for one in there], level_N + mean_N)
            ends = zip(end_N.tolist(), np.sqrt(variance_N).tolist(), strict=True)
            found |= zip((one.number for one in there), ends, strict=True)
        return found

    def untried(
        self,
        recorded: Sequence[Mapping[str, Any]],
        known: Mapping[int, tuple[float, float]],
        trials: Iterable[Contender],
    ) -> Array:
        """Mean logarithms of the final objectives of N untrained configurations, (N,).

        Args:
            recorded: what the prior knows of each, see `search.sampling.priors.as_recorded`.
            known: `estimates` of these trials.
        """
        there = [one for one in trials if one.number in known]
        end_N, sd_N = np.array([known[one.number] for one in there]).T
        x_NF, new_NF = (
            np.array([[1.0, *features(it)] for it in many])
            for many in ([one.recorded for one in there], recorded)
        )
        model = self.ends.updated(x_NF, end_N - end_N.mean(), sd_N)
        return np.asarray(end_N.mean() + model.predict(new_NF)[0])

    def inputs(self, trials: Sequence[Contender], rung: int) -> tuple[Array, Array]:
        """Inputs of the rung's regression, (N, F), and the trials' levels there, (N,)."""
        level_N = np.array([one.level(rung) for one in trials])
        columns = np.ones(len(trials)), level_N - self.center[rung]
        features_NF = np.array([features(one.recorded) for one in trials])
        return np.column_stack([*columns, features_NF]), level_N


def fit(trials: Iterable[Contender], epochs: int, prior: Path | None) -> Forecast:
    """Learn from all trials of a study, each of at most `epochs` epochs.

    Args:
        prior: see `read_prior`.
    """
    known = [one for one in trials if one.params and not math.isnan(one.level())]
    rungs = halving.rungs(epochs)
    support_S = support(known, prior) * (HYPOTHESES[:, 2] > 0)
    center: dict[int, float] = {}
    models: dict[int, Regression] = {}

    def believed(fraction: float | None) -> Regression:
        model = _believed(prior, fraction)
        return replace(model, log_weights=model.log_weights + support_S)

    forecast = Forecast(center, models, believed(None))
    for rung in reversed(rungs):
        there = [one for one in known if max(one.curve) >= rung and not math.isnan(one.level(rung))]
        center[rung] = float(np.mean([one.level(rung) for one in there])) if there else 0.0
        model = believed((rung or PARTIAL_EPOCH) / epochs)
        ended = [one for one in there if one.state == "complete"]
        later = min(models, default=math.inf)
        further = [it for it in there if it.state != "complete" and max(it.curve) >= later]
        if ended or further:
            estimates = forecast.estimates(further)
            known_ends = [(one.level(), 0.0) for one in ended]  # an estimate counts less
            end_N, sd_N = np.array([*known_ends, *(estimates[it.number] for it in further)]).T
            x_NF, level_N = forecast.inputs([*ended, *further], rung)
            model = model.updated(x_NF, end_N - level_N, sd_N)
        models[rung] = model
    return forecast


def estimates_of(
    trials: Sequence[Contender], epochs: int, prior: Path | None
) -> dict[int, tuple[float, float]]:
    """`Forecast.estimates` of the `informative` trials, fitted to them; see `fit`."""
    told = informative(trials)
    return fit(told, epochs, prior).estimates(told)


def support(trials: Sequence[Contender], prior: Path | None) -> float:
    """How strongly the trials' first levels support the prior on parameters, as a logarithm.

    From the slope of the levels on those that the prior expects. Data sets differ in how steep it
    is, not in how far it exceeds the noise. Trials with nearly equal parameters say nothing.
    """
    there = [one for one in trials if one.in_space and not math.isnan(one.level(0))]
    starts_F, count = read_prior(prior).starts, len(there)
    if count < 4:
        return 0.0
    expected_N = np.array([features(one.recorded) for one in there]) @ starts_F
    level_N = np.array([one.level(0) for one in there])
    expected_N, level_N = expected_N - expected_N.mean(), level_N - level_N.mean()
    width = math.sqrt(expected_N @ expected_N)
    if width < 1e-6:
        return 0.0
    slope = expected_N @ level_N / width**2
    left = math.sqrt(np.sum((level_N - slope * expected_N) ** 2) / (count - 2))
    seen, foretold = slope * width / max(left, 1e-9), width / START_SD
    return float(np.clip(seen * foretold - foretold**2 / 2, -20, 20))


@cache
def _believed(prior: Path | None, fraction: float | None) -> Regression:
    """The belief about an unknown data set, after that fraction of the training.

    None: before any training, about the ends themselves.
    """
    table = read_prior(prior)
    at = partial(table.at, fraction or 0.0)
    scale_S, noise_S, trust_S = HYPOTHESES.T
    one_S = np.ones(len(HYPOTHESES))
    if fraction is None:
        promised_F, mean_SF, sd_SF = table.ends, [0 * one_S], [scale_S]
    else:
        promised_F = np.array([at(column) for column in table.promised.T])
        mean_SF = [scale_S * at(table.falls), one_S * at(table.level)]
        sd_SF = [scale_S * at(table.falls_sd), one_S * at(table.level_sd)]
    promised_sd_S = np.where(trust_S > 0, at(table.promised_sd), UNTOLD_SD)
    mean_SF += list(np.outer(promised_F, scale_S * trust_S))
    sd_SF += [scale_S * promised_sd_S] * len(promised_F)
    center, width = table.scale
    likely_S = np.exp(-(((np.log(scale_S) - center) / width) ** 2) / 2)
    likely_S *= [TRUSTS[trust] for trust in trust_S]
    variance_S = (scale_S * noise_S * at(table.noise)) ** 2
    return Regression.believed(np.stack(mean_SF, 1), np.stack(sd_SF, 1), variance_S, likely_S)
