"""Bayesian linear regression under several hypotheses at once, each weighted by its evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.sampling.priors import Array


@dataclass(frozen=True, slots=True)
class Regression:
    """Linear regression with a normal belief about F coefficients under each of S hypotheses."""

    means: Array  # of the coefficients, (S, F)
    precisions: Array  # of the coefficients, (S, F, F)
    variances: Array  # of the noise, (S,)
    log_weights: Array  # how likely each hypothesis is, (S,), up to a constant

    @classmethod
    def believed(cls, means: Array, sds: Array, variances: Array, weights: Array) -> Regression:
        """Before the first observation: (S, F) twice, (S,) twice; weights need not sum to 1."""
        precisions = np.stack([np.diag(sd_F**-2.0) for sd_F in sds])
        return cls(means, precisions, variances, np.log(weights))

    def updated(self, x_NF: Array, y_N: Array, sd_N: Array) -> Regression:
        """After N more observations, uncertain by `sd_N` in addition to the noise.

        Bishop 2006, "Pattern recognition", sections 3.3 and 3.5.
        """
        variance_SN = self.variances[:, None] + sd_N**2
        weighted_SFN = x_NF.T / variance_SN[:, None]
        precisions = self.precisions + weighted_SFN @ x_NF
        pull = (self.precisions @ self.means[..., None])[..., 0]
        pulled = pull + weighted_SFN @ y_N
        means = np.linalg.solve(precisions, pulled[..., None])[..., 0]
        left = np.sum(self.means * pull - means * pulled, 1) + np.sum(y_N**2 / variance_SN, 1)
        narrowed = np.linalg.slogdet(precisions)[1] - np.linalg.slogdet(self.precisions)[1]
        evidence = -(np.sum(np.log(variance_SN), 1) + narrowed + left) / 2
        return Regression(means, precisions, self.variances, self.log_weights + evidence)

    def predict(self, x_NF: Array) -> tuple[Array, Array]:
        """Mean and variance of each observation, (N,) both."""
        weights_S = np.exp(self.log_weights - self.log_weights.max())
        weights_S = weights_S / np.sum(weights_S)
        means_SN = self.means @ x_NF.T
        mean_N = weights_S @ means_SN
        uncertain_SN = np.sum((x_NF @ np.linalg.inv(self.precisions)) * x_NF, 2)
        variance_SN = self.variances[:, None] + uncertain_SN + (means_SN - mean_N) ** 2
        return mean_N, weights_S @ variance_SN
