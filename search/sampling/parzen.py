"""The density of Optuna's Parzen estimator, computed as Optuna does, only in less memory.

Optuna keeps arrays over candidates, trials and parameters, several at a time, most of them to look
for cases that cannot arise between numbers of one search space. Here one parameter comes after the
other; every number is rounded as there, so that TPE's draws are the same to the bit.

C candidates; T trials, each the centre of a kernel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from optuna.samplers._tpe import _truncnorm
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.probability_distributions import (
    _BatchedCategoricalDistributions,
    _BatchedDistributions,
    _log_gauss_mass_unique,
    _unique_inverse_2d,
)

Floats = NDArray[np.float64]


def log_density(estimator: _ParzenEstimator, candidates: dict[str, Floats]) -> Floats:
    """What `estimator.log_pdf(candidates)` gives; shape (C,)."""
    mixture = estimator._mixture_distribution
    candidate_count = len(next(iter(candidates.values())))
    log_CT = np.zeros((candidate_count, len(mixture.weights)))
    continuous_CT = np.zeros_like(log_CT)  # summed apart, as there
    for x_C, kernels in zip(candidates.values(), mixture.distributions, strict=True):
        if isinstance(kernels, _BatchedCategoricalDistributions):
            log_CT += np.log(kernels.weights.T[x_C.astype(np.int64)])
        elif kernels.step == 0:
            continuous_CT += _continuous(x_C, kernels)
        else:
            _add_discrete(log_CT, x_C, kernels)
    log_CT += continuous_CT
    log_CT += np.log(mixture.weights)
    highest_C = log_CT.max(axis=1)
    highest_C[np.isneginf(highest_C)] = 0  # no kernel reaches it
    log_CT -= highest_C[:, None]
    with np.errstate(divide="ignore"):
        found: Floats = np.log(np.exp(log_CT, out=log_CT).sum(axis=1)) + highest_C
    return found


def _continuous(x_C: Floats, kernels: _BatchedDistributions) -> Floats:
    """Logarithms of normal densities, cut off at the range's ends; shape (C, T)."""
    assert not isinstance(kernels, _BatchedCategoricalDistributions)
    if kernels.is_log:
        x_C = np.log(x_C)
    # By a rounding at the very end. For all others the order below is kept by rounding.
    outside_C = (x_C < kernels.adapted_low) | (x_C > kernels.adapted_high)
    mu_T, sigma_T = kernels.mu, kernels.sigma
    low_T = (kernels.adapted_low - mu_T) / sigma_T
    high_T = (kernels.adapted_high - mu_T) / sigma_T
    z_CT = (x_C[:, None] - mu_T) / sigma_T
    log_CT: Floats = _truncnorm._norm_logpdf(z_CT)
    log_CT -= _truncnorm._log_gauss_mass(low_T, high_T)
    log_CT -= np.log(sigma_T)
    if outside_C.any():
        log_CT[(z_CT < low_T) | (z_CT > high_T)] = -np.inf
    return log_CT


def _add_discrete(log_CT: Floats, x_C: Floats, kernels: _BatchedDistributions) -> None:
    """Adds logarithms of normal masses around each candidate, as shares of the range's mass."""
    assert not isinstance(kernels, _BatchedCategoricalDistributions)
    x_U, index_C = np.unique(x_C, return_inverse=True)
    mu_K, sigma_K, index_T = _unique_inverse_2d(kernels.mu, kernels.sigma)
    ends_U = [x_U - kernels.step / 2, x_U + kernels.step / 2]
    if kernels.is_log:
        ends_U = [np.log(end_U) for end_U in ends_U]
    left_UK, right_UK = ((end_U[:, None] - mu_K) / sigma_K for end_U in ends_U)
    log_CT += _log_gauss_mass_unique(left_UK, right_UK)[np.ix_(index_C, index_T)]
    low_K = (kernels.adapted_low - mu_K) / sigma_K
    high_K = (kernels.adapted_high - mu_K) / sigma_K
    log_CT -= _truncnorm._log_gauss_mass(low_K, high_K)[index_T]
