"""Recorded curves (`benchmarks.curves`) as worlds in which searches are replayed.

A world says what a training that a search proposes would have reported, how long it would have
taken, and how good it would have been on images that no search sees. In a `Pool` a proposal is
replaced by the nearest recorded configuration that has not been used yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from benchmarks.curves import read, study_spec
from benchmarks.replay_simulation import (
    CALIBRATED,
    SEEN,
    HeldOutScore,
    RecordedRun,
    Source,
)
from search.spec.space import distributions

Array = NDArray[np.float64]
HIDDEN = ("holdout_error", "calibrated_holdout_loss")  # what a search is scored by


class Encoder:
    """Parameters as points: numbers scaled to 0 ... 1, choices at a distance of 1."""

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self._space = space

    def __call__(self, params: Mapping[str, Any]) -> Array:
        return np.concatenate([self._part(name, params[name]) for name in self._space])

    def _part(self, name: str, value: Any) -> Array:
        domain: Any = self._space[name]
        if isinstance(domain, CategoricalDistribution):
            return np.array([value == choice for choice in domain.choices]) * math.sqrt(0.5)
        low, high = domain.low, domain.high
        if domain.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return np.array([(value - low) / (high - low)])


def read_runs(file: Path) -> list[RecordedRun]:
    """One run per configuration, from seed 0; scored on its other seeds if there are any.

    A report costs the CPU seconds that it took. On a GPU, which many trainings shared, these mean
    little; there it costs as many seconds as it trained images, whatever the network.
    """
    by_number: dict[int, dict[int, dict[str, Any]]] = {}
    devices = set()
    for one in read(file):
        by_number.setdefault(one["number"], {})[one["seed"]] = one
        devices.add(one["made_on"]["device"])
    clock = "cpu_seconds" if devices == {"cpu"} else "images"
    return [_run(of_seed, clock) for _, of_seed in sorted(by_number.items())]


def _run(of_seed: Mapping[int, Mapping[str, Any]], clock: str) -> RecordedRun:
    first, *others = (of_seed[seed] for seed in sorted(of_seed))
    columns = {name: _column(first, name) for name in ("epoch", clock, *SEEN)}
    judges = [one for one in others if len(one["reports"]) == len(first["reports"])] or [first]
    hidden = [np.mean([_column(one, name) for one in judges], axis=0) for name in HIDDEN]
    return RecordedRun(
        params=first["params"],
        epochs=[int(epoch) for epoch in columns["epoch"]],
        seconds=columns[clock],
        seen={name: columns[name] for name in SEEN},
        hidden=[
            HeldOutScore(float(error), float(loss)) for error, loss in zip(*hidden, strict=True)
        ],
        work=first["multiply_adds"],
    )


def _column(one: Mapping[str, Any], name: str) -> list[float]:
    """Values by report; NaN if not finite."""
    values = (report[name] for report in one["reports"])
    return [math.nan if value is None else value for value in values]


def mean_seconds(runs: Sequence[RecordedRun]) -> float:
    """Mean duration of a whole training."""
    return float(np.mean([sum(run.seconds) for run in runs]))


def mean_work(runs: Sequence[RecordedRun]) -> float:
    """Mean multiply-adds of a network for one image."""
    return float(np.mean([run.work for run in runs]))


def incumbent(runs: Sequence[RecordedRun], objective: str = CALIBRATED) -> HeldOutScore:
    """The score of the run with the lowest objective, at its best epoch."""
    places = [
        (value, run.hidden[report])
        for run in runs
        for report, value in enumerate(run.seen[objective])
        if run.epochs[report] and math.isfinite(value)
    ]
    return min(places)[1]


class Pool:
    """The recorded configurations and nothing else.

    Attributes:
        target: the score that a perfect search would have: that of the best run by validation.
    """

    def __init__(self, runs: Sequence[RecordedRun]) -> None:
        self.runs, self.size = runs, float(len(runs))
        self.spec = study_spec(max(runs[0].epochs))
        self.whole_seconds, self.mean_work = mean_seconds(runs), mean_work(runs)
        self.target = incumbent(runs)
        self.encode = Encoder(distributions(self.spec))
        self.points_ND = np.array([self.encode(run.params) for run in runs])

    def describe(self) -> dict[str, Any]:
        return {
            "configurations": len(self.runs),
            "whole_seconds": round(self.whole_seconds, 4),
            "target": self.target._asdict(),
        }

    def source(self, seed: int) -> Source:
        return _Remaining(self)


class _Remaining:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._free_N = np.ones(len(pool.runs), dtype=bool)

    def is_empty(self) -> bool:
        return not self._free_N.any()

    def sampler(self, inner: BaseSampler) -> BaseSampler:
        return _Settled(inner, self, distributions(self._pool.spec))

    def settle(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration that is trained if `params` are proposed."""
        return dict(self._pool.runs[self._nearest(params)].params)

    def take(self, params: Mapping[str, Any]) -> RecordedRun:
        index = self._nearest(params)
        self._free_N[index] = False
        return self._pool.runs[index]

    def _nearest(self, params: Mapping[str, Any]) -> int:
        distances_N = ((self._pool.points_ND - self._pool.encode(params)) ** 2).sum(axis=1)
        return int(np.where(self._free_N, distances_N, np.inf).argmin())


class _Settled(BaseSampler):
    """Another sampler's proposals, each moved to a configuration that the world has."""

    def __init__(self, sampler: BaseSampler, source: _Remaining, space: dict[str, Any]) -> None:
        self._inner, self._source, self._space = sampler, source, space

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        inner = self._inner
        together = inner.infer_relative_search_space(study, trial)
        params = inner.sample_relative(study, trial, together)
        for name, domain in search_space.items():
            if name not in params:
                params[name] = inner.sample_independent(study, trial, name, domain)
        return self._source.settle(params)

    def sample_independent(self, *_: Any) -> Any:
        raise AssertionError("all parameters are drawn together")
