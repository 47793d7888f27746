"""Where a trial will end: its final objective, forecast from its curve and its parameters so far.

For each rung, a Bayesian linear regression of the fall that is still to come (in the logarithm of
the objective) on the level at the rung and on the parameters that decide how fast a network learns
and how late a regularised one overtakes. Its coefficients start from a prior that was learned on
recorded curves of other data sets (`python -m benchmarks.prior`), and every trial of the study that
went on from the rung updates them in closed form. Beside it stand one that begins without that
prior, and one that knows of the level alone; the three are weighted by how well each predicts what
the study has shown, so that a prior that is wrong here does not hurt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from search.sampling import halving
from search.spec.recipe import EARLY_LOOK

Array = NDArray[np.floating[Any]]
State = Literal["running", "paused", "complete", "pruned"]
SEED_SD = 0.03  # of the logarithm of a final objective: what another seed would change
PRIOR = Path(__file__).with_name("prior.json")
POLICIES = (
    *("flip-crop", "flip-rotate-crop", "rotate-jitter-erase", "zoom-translate-flip"),
    "flip-crop-erase",
)
FEATURES = (
    *("one", "level", "depth", "width", "residual", "learning_rate", "learning_rate_squared"),
    *("dropout", "label_smoothing", "coupled", "coupled_decay", "decoupled", "decoupled_decay"),
    *("augmentation", *POLICIES),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """What is known of one trial that has not failed.

    Attributes:
        params: as Optuna stores them.
        curve: its objective by report; 0 is the partial-epoch validation. Empty before the first.
    """

    number: int
    state: State
    params: Mapping[str, Any]
    curve: Mapping[int, float]

    @property
    def epochs(self) -> float:
        """Trained so far."""
        last = max(self.curve, default=None)
        return 0.0 if last is None else last or EARLY_LOOK

    def level(self, rung: float = math.inf) -> float:
        """Logarithm of the lowest objective up to a rung; NaN where there is none."""
        seen = [it for epoch, it in self.curve.items() if epoch <= rung and math.isfinite(it)]
        return math.log(max(min(seen), 1e-12)) if seen else math.nan


def features(params: Mapping[str, Any]) -> list[float]:
    """FEATURES after the first two, each about 0 in the middle and 1 wide; 0 where not searched."""

    def part(name: str, value: float) -> float:
        return value if name in params else 0.0

    decay = math.log10(max(params.get("weight_decay", 3e-4), 1e-8)) + 3.5
    rate = math.log10(params.get("learning_rate", 3e-3)) + 2.5
    policy, strength = params.get("augmentation", ""), params.get("augmentation_strength", 1.0)
    kinds = [
        part("weight_decay_kind", (params.get("weight_decay_kind") == kind) * value)
        for kind in ("coupled", "decoupled")
        for value in (1.0, decay)
    ]
    return [
        part("depth", (params.get("depth", 3) - 3) / 2),
        part("width", math.log2(params.get("width", 24) / 24)),
        part("residual", float(params.get("residual", 0)) - 0.5),
        part("learning_rate", rate),
        part("learning_rate", rate * rate),
        part("dropout", 2 * params.get("dropout", 0.0) - 0.5),
        part("label_smoothing", 5 * params.get("label_smoothing", 0.0) - 0.5),
        *kinds,
        part("augmentation", (strength if policy != "none" else 0.0) - 0.5),
        *((policy == known) * strength for known in POLICIES),
    ]


@dataclass(frozen=True, slots=True)
class Regression:
    """Linear, with a normal-inverse-gamma belief about F coefficients and the noise.

    Attributes:
        mean, precision: of the coefficients, (F,) and (F, F); precision relative to the noise.
        shape, scale: of the noise's variance.
        evidence: logarithm of the probability of all data it was updated with.
    """

    mean: Array
    precision: Array
    shape: float
    scale: float
    evidence: float = 0.0

    def updated(self, x_NF: Array, y_N: Array) -> Regression:
        """After N more observations (Bishop 2006, "Pattern recognition", section 3.3)."""
        precision = self.precision + x_NF.T @ x_NF
        mean: Array = np.linalg.solve(precision, self.precision @ self.mean + x_NF.T @ y_N)
        shape = self.shape + len(y_N) / 2
        before, after = self.mean @ self.precision @ self.mean, mean @ precision @ mean
        scale = max(self.scale + float(y_N @ y_N + before - after) / 2, 1e-12)
        evidence = (
            (np.linalg.slogdet(self.precision)[1] - np.linalg.slogdet(precision)[1]) / 2
            + (self.shape * math.log(self.scale) - shape * math.log(scale))
            + float(gammaln(shape) - gammaln(self.shape))
            - len(y_N) / 2 * math.log(2 * math.pi)
        )
        return Regression(mean, precision, shape, scale, self.evidence + evidence)

    def predict(self, x_F: Array) -> tuple[float, float]:
        """Mean and variance of an observation."""
        spread = 1 + x_F @ np.linalg.solve(self.precision, x_F)
        return float(x_F @ self.mean), float(self.scale / (self.shape - 1) * spread)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Fitted to one study.

    Attributes:
        center, spread: of the levels at each rung, and of all levels: what is regressed is in
            units of the spread, so that data sets are alike.
        models: at each rung, regressions and their weights.
    """

    center: Mapping[int, float]
    spread: float
    models: Mapping[int, Sequence[tuple[Regression, float]]]

    def estimate_final(self, trial: Contender) -> tuple[float, float] | None:
        """(mean, standard deviation) of the logarithm of the trial's final (lowest) objective.

        None as long as no finite one was reported.
        """
        level = trial.level()
        rungs = [rung for rung in self.models if rung <= max(trial.curve, default=-1)]
        if math.isnan(level) or not (rungs or trial.state == "complete"):
            return None
        if trial.state == "complete":
            return level, SEED_SD
        rung = max(rungs)
        x_F = self.inputs(trial, rung)
        found = [(*model.predict(x_F), weight) for model, weight in self.models[rung]]
        mean = sum(weight * one for one, _, weight in found)
        square = sum(weight * (variance + one * one) for one, variance, weight in found)
        variance = (square - mean * mean) * self.spread**2 + SEED_SD**2
        return min(level, trial.level(rung) + mean * self.spread), math.sqrt(variance)

    def inputs(self, trial: Contender, rung: int) -> Array:
        """Of the rung's regressions, (F,)."""
        level = (trial.level(rung) - self.center[rung]) / self.spread
        return np.array([1.0, level, *features(trial.params)])


def fit(trials: Iterable[Contender], epochs: int, prior: Path | None = PRIOR) -> Forecast:
    """Learn from all trials of a study, whose maximum is `epochs` epochs each.

    Args:
        prior: what `python -m benchmarks.prior` wrote.
    """
    known = [one for one in trials if one.params and not math.isnan(one.level())]
    table = _read_prior(prior)
    rungs = halving.rungs(epochs)
    firsts = [one.level(rungs[0]) for one in known]
    firsts = [level for level in firsts if not math.isnan(level)]
    # The prior's spread counts as much as five trials.
    observed = float(np.std(firsts)) if len(firsts) > 1 else 0.0
    weight = len(firsts) / (len(firsts) + 5)
    spread = math.sqrt(weight * observed**2 + (1 - weight) * table.spread**2)
    forecast = Forecast({}, max(spread, 1e-3), {})
    for rung in reversed(rungs):
        there = [one for one in known if max(one.curve) >= rung and not math.isnan(one.level(rung))]
        center = float(np.median([one.level(rung) for one in there])) if there else 0.0
        x, y = [], []
        later = [one for one in there if one.state == "complete" or _passed(one, rung, rungs)]
        begun = Forecast({**forecast.center, rung: center}, forecast.spread, forecast.models)
        models = table.regressions(rung / epochs if rung else EARLY_LOOK / epochs)
        for one in later:
            level, estimate = one.level(rung), forecast.estimate_final(one)
            assert estimate is not None
            mean, sd = estimate
            # An estimate in place of a known end counts less.
            noise = models[0].scale / (models[0].shape - 1)
            trust = math.sqrt(noise / (noise + (sd / forecast.spread) ** 2))
            x.append(trust * begun.inputs(one, rung))
            y.append(trust * (mean - level) / forecast.spread)
        if x:
            models = [model.updated(np.array(x), np.array(y)) for model in models]
        highest = max(model.evidence for model in models)
        weights = [math.exp(model.evidence - highest) for model in models]
        pairs = [(model, it / sum(weights)) for model, it in zip(models, weights, strict=True)]
        forecast = Forecast(begun.center, forecast.spread, {**forecast.models, rung: pairs})
    return forecast


def promise(params: Mapping[str, Any], prior: Path | None = PRIOR) -> float:
    """Where such a configuration ended on other data sets, in standard deviations of all that were
    tried there: the lower the better. 0 for what the prior does not know."""
    return float(np.array(features(params)) @ _read_prior(prior).promise)


def _passed(trial: Contender, rung: int, rungs: Sequence[int]) -> bool:
    return any(rung < later <= max(trial.curve) for later in rungs)


@dataclass(frozen=True, slots=True)
class _Prior:
    """Attributes: fractions of the training (P,), means and sds of coefficients (P, F), noise (P,)
    in standard deviations; all in units of `spread`, the usual spread of first levels. Promise:
    coefficients (F - 2,) of where configurations end."""

    spread: float
    fractions: Array
    means: Array
    sds: Array
    noise: Array
    promise: Array

    def regressions(self, fraction: float) -> list[Regression]:
        """One that believes the prior, one that learns of the parameters here, one of the level."""
        mean, sds = (
            np.array([np.interp(fraction, self.fractions, column) for column in table.T])
            for table in (self.means, self.sds)
        )
        noise = float(np.interp(fraction, self.fractions, self.noise)) ** 2
        is_one, is_level = (np.arange(len(FEATURES)) == index for index in (0, 1))
        start = np.where(is_one, mean, 0.0)
        learning = np.where(is_one, np.maximum(sds, 0.5), 0.3)
        level = np.where(is_one | is_level, learning, 1e-3)
        return [
            Regression(at, np.diag(noise / sd**2), 3.0, 2 * noise * factor)
            for at, sd, factor in ((mean, sds, 1.0), (start, learning, 1.5), (start, level, 1.5))
        ]


@cache
def _read_prior(file: Path | None) -> _Prior:
    stored = json.loads(file.read_text()) if file is not None else {}
    if stored.get("features") != list(FEATURES):  # none: falls of nothing, and all may be
        count = len(FEATURES)
        zeros, sds = np.zeros((1, count)), np.full((1, count), 0.3)
        return _Prior(0.3, np.array([0.0]), zeros, sds, np.array([0.5]), zeros[0, 2:])
    columns = (np.array(stored[name]) for name in ("fractions", "means", "sds", "noise", "promise"))
    return _Prior(stored["spread"], *columns)
