"""A world between the recorded configurations: a model of whole curves, fitted to one record.

Everything that a run reported (losses, errors, seconds; of validation and holdout) is one vector.
Gaussian processes over the parameters predict its principal components: with a length scale for
each parameter if there are many runs, else with a single one and the forecast's features as further
inputs (chosen by cross-validation on digits, 150 runs, and Fashion-MNIST, 40). The residual
of a whole recorded curve with a similar end is added to the prediction: the noise of seeds and
images, and what the model does not capture, with validation and holdout correlated as recorded.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import KFold

from benchmarks.curves import data_set, study_spec
from benchmarks.replay_simulation import CALIBRATED, ERROR, RAW, HeldOutScore, RecordedRun, Source
from benchmarks.replay_worlds import (
    Array,
    Encoder,
    Pool,
    incumbent,
    mean_seconds,
    mean_work,
    read_runs,
)
from models.summary import sizes
from search.sampling.priors import features
from search.spec.config import StudySpec
from search.spec.space import distributions, suggest

COMPONENTS = 8  # principal components
DONORS = 20  # runs with the most similar ends that may lend their residual; at most a quarter
TRIALS, DRAWS = 500, 10  # the target is the mean of DRAWS random searches of TRIALS each
FOLDS = 5
MANY = 100  # runs
ROWS = (RAW, CALIBRATED, "holdout_loss", ERROR, "holdout_error", "seconds")  # of a curve
LOGS, ANGLES = [0, 1, 2, 5], [3, 4]  # logarithms; arc sines of roots, for shares
FLOOR = 1e-4
WORLDS = ("pool", "surrogate")
GREY = (1, 28, 28)  # shape of the images of most data sets


def image_shape_of(file: Path) -> tuple[int, int, int]:
    """(C, H, W) of the images of a record's data set."""
    return {"digits": (1, 8, 8), "cifar10": (3, 32, 32)}.get(data_set(file), GREY)


def network_sizes(
    params: Mapping[str, Any], spec: StudySpec, image_shape: tuple[int, int, int]
) -> dict[str, int]:
    """`parameters` and `multiply_adds` of a configuration's network."""
    config = suggest(optuna.trial.FixedTrial(dict(params)), spec)
    return sizes(config.architecture, image_shape, 10)


def _vector(run: RecordedRun) -> Array:
    """Everything that a run reported, transformed, (6 R,)."""
    hidden_R2 = np.array(run.hidden)
    rows_6R = np.array(
        [
            run.seen[RAW],
            run.seen[CALIBRATED],
            hidden_R2[:, 1],
            run.seen[ERROR],
            hidden_R2[:, 0],
            run.seconds,
        ]
    )
    rows_6R[LOGS] = np.log(np.maximum(rows_6R[LOGS], FLOOR))
    rows_6R[ANGLES] = np.arcsin(np.sqrt(rows_6R[ANGLES]))
    return rows_6R.ravel()


def _rows(vectors_NV: Array) -> Array:
    """The inverse of `_vector`, (N, 6, R)."""
    rows_N6R = vectors_NV.reshape(len(vectors_NV), len(ROWS), -1)
    found = np.exp(rows_N6R)
    found[:, ANGLES] = np.sin(np.clip(rows_N6R[:, ANGLES], 0, math.pi / 2)) ** 2
    return found


class _Model:
    """Points in the space -> vectors."""

    def __init__(self, points_ND: Array, vectors_NV: Array, length_scale: float | Array) -> None:
        self._mean_V, self._sd_V = vectors_NV.mean(axis=0), vectors_NV.std(axis=0) + 1e-9
        standard_NV = (vectors_NV - self._mean_V) / self._sd_V
        axes_KV = np.linalg.svd(standard_NV, full_matrices=False)[2][:COMPONENTS]
        scores_NK = standard_NV @ axes_KV.T
        scale_K = scores_NK.std(axis=0) + 1e-9
        self._back_KV = axes_KV * scale_K[:, None]
        kernel = ConstantKernel() * Matern(length_scale, (0.1, 100.0), nu=2.5)
        with warnings.catch_warnings():  # a length scale at its bound: the parameter is irrelevant
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._processes = [
                GaussianProcessRegressor(kernel + WhiteKernel(0.1, (1e-3, 10.0))).fit(
                    points_ND, scores_N
                )
                for scores_N in (scores_NK / scale_K).T
            ]
        found_NK = np.stack([one.predict(points_ND) for one in self._processes], axis=1)
        # Residuals on a model's own training data are too small; the fitted noise says by how much.
        noise = sum(
            one.kernel_.k2.noise_level * scale**2
            for one, scale in zip(self._processes, scale_K, strict=True)
        )
        left = (((scores_NK - found_NK * scale_K) ** 2).mean(axis=0)).sum()
        self.residuals_NV = (vectors_NV - self.predict(points_ND)) * math.sqrt(noise / left)

    def predict(self, points_ND: Array) -> Array:
        found_NK = np.stack([one.predict(points_ND) for one in self._processes], axis=1)
        found_NV: Array = found_NK @ self._back_KV * self._sd_V + self._mean_V
        return found_NV


class Surrogate:
    """A world with all configurations of the space.

    Attributes:
        target: the score that a perfect search would have: that of the best of 500 random
            configurations by validation.
    """

    def __init__(
        self,
        runs: Sequence[RecordedRun],
        kept: Path,
        image_shape: tuple[int, int, int] = GREY,
    ) -> None:
        whole = [run for run in runs if all(map(math.isfinite, _vector(run)))]
        self.epochs, self.size = whole[0].epochs, math.inf
        self.spec = study_spec(max(self.epochs))
        self.whole_seconds, self.mean_work = mean_seconds(whole), mean_work(whole)
        self.image_shape = image_shape
        self._encoder, self._few = Encoder(distributions(self.spec)), len(whole) < MANY
        points_ND = np.array([self.encode(run.params) for run in whole])
        vectors_NV = np.array([_vector(run) for run in whole])
        digest = hashlib.sha256(Path(__file__).read_bytes() + vectors_NV.tobytes())
        file = kept / f"surrogate-{digest.hexdigest()[:16]}.pickle"
        if not file.exists():
            scale = 2.0 if self._few else np.ones(points_ND.shape[1])
            made = (
                _Model(points_ND, vectors_NV, scale),
                _cross_validated(points_ND, vectors_NV, scale),
            )
            kept.mkdir(parents=True, exist_ok=True)
            file.write_bytes(pickle.dumps(made))
        self.model, self.errors = pickle.loads(file.read_bytes())
        self._ends_N = self._ends(self.model.predict(points_ND))
        self.target = self._best_of_random()

    def describe(self) -> dict[str, Any]:
        return {
            "configurations": len(self._ends_N),
            "whole_seconds": round(self.whole_seconds, 4),
            "target": self.target._asdict(),
            "cross_validated": self.errors,
        }

    def source(self, seed: int) -> Source:
        return _Anywhere(self, seed)

    def runs(
        self, params: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> list[RecordedRun]:
        predicted_NV = self.model.predict(np.array([self.encode(one) for one in params]))
        distances_NM = np.abs(self._ends(predicted_NV)[:, None] - self._ends_N)
        donors_ND = distances_NM.argsort(axis=1)[:, : min(DONORS, len(self._ends_N) // 4)]
        places_N = rng.integers(donors_ND.shape[1], size=len(params))
        donors_N = donors_ND[np.arange(len(params)), places_N]
        rows_N6R = _rows(predicted_NV + self.model.residuals_NV[donors_N])
        return [self._run(one, rows) for one, rows in zip(params, rows_N6R, strict=True)]

    def work(self, params: Mapping[str, Any]) -> int:
        """Multiply-adds of the network for one image."""
        return network_sizes(params, self.spec, self.image_shape)["multiply_adds"]

    def encode(self, params: Mapping[str, Any]) -> Array:
        point_D = self._encoder(params)
        return np.append(point_D, np.multiply(features(params), 0.5)) if self._few else point_D

    def _run(self, params: Mapping[str, Any], rows_6R: Array) -> RecordedRun:
        rows = dict(zip(ROWS, rows_6R.tolist(), strict=True))
        scores = zip(rows["holdout_error"], rows["holdout_loss"], strict=True)
        return RecordedRun(
            params=params,
            epochs=self.epochs,
            seconds=rows["seconds"],
            seen={name: rows[name] for name in (RAW, CALIBRATED, ERROR)},
            hidden=[HeldOutScore(*score) for score in scores],
        )

    def _ends(self, vectors_NV: Array) -> Array:
        """Logarithms of the last calibrated loss."""
        return vectors_NV[:, 2 * len(self.epochs) - 1]

    def _best_of_random(self) -> HeldOutScore:
        rng, space = np.random.default_rng(0), distributions(self.spec)
        study = optuna.create_study(sampler=RandomSampler(seed=0))
        params = [study.ask(space).params for _ in range(TRIALS * DRAWS)]
        runs = self.runs(params, rng)
        best = [incumbent(runs[at : at + TRIALS]) for at in range(0, len(runs), TRIALS)]
        return HeldOutScore(*map(float, np.mean(best, axis=0)))


class _Anywhere:
    def __init__(self, world: Surrogate, seed: int) -> None:
        self._world, self._rng = world, np.random.default_rng(seed)

    def is_empty(self) -> bool:
        return False

    def sampler(self, inner: BaseSampler) -> BaseSampler:
        return inner

    def take(self, params: Mapping[str, Any]) -> RecordedRun:
        found = self._world.runs([params], self._rng)[0]
        return replace(found, work=self._world.work(params))


def _cross_validated(
    points_ND: Array, vectors_NV: Array, scale: float | Array
) -> dict[str, dict[str, float]]:
    """How well the model predicts the last report of runs that it has not seen."""
    found_NV = np.empty_like(vectors_NV)
    for known, new in KFold(FOLDS, shuffle=True, random_state=0).split(points_ND):
        found_NV[new] = _Model(points_ND[known], vectors_NV[known], scale).predict(points_ND[new])
    errors = {}
    for name in (CALIBRATED, "holdout_error"):
        row = ROWS.index(name)
        true_N, found_N = (_rows(vectors)[:, row, -1] for vectors in (vectors_NV, found_NV))
        better_N = true_N <= np.median(true_N)
        errors[name] = {
            "rank_correlation": _round(spearmanr(true_N, found_N)[0]),
            "rmse": _round(np.sqrt(np.mean((true_N - found_N) ** 2))),
            "rmse_of_the_better_half": _round(np.sqrt(np.mean((true_N - found_N)[better_N] ** 2))),
        }
    return errors


def _round(value: float) -> float:
    return float(f"{value:.4g}")


@cache
def make_world(file: Path, kind: str, kept: Path) -> Pool | Surrogate:
    """The world of a record, made once per process; slow parts are cached in the folder `kept`."""
    runs = read_runs(file)
    if kind == "pool":
        return Pool(runs)
    return Surrogate(runs, kept, image_shape_of(file))
