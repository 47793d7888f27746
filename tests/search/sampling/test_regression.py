"""Bayesian linear regression, compared with its definition."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from search.sampling.regression import Regression


def test_beliefs_are_updated_by_bayes_rule() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 3)), rng.normal(size=400)
    mean, sd = rng.normal(size=3), np.array([1.0, 0.5, 2.0])
    variances, known_sd = np.geomspace(0.2, 5, 9), rng.uniform(0, 0.1, 400)
    prior = Regression.believed(*(np.tile(it, (9, 1)) for it in (mean, sd)), variances, np.ones(9))
    four = prior.updated(x[:4], y[:4], known_sd[:4])
    once, twice = prior.updated(x, y, known_sd), four.updated(x[4:], y[4:], known_sd[4:])
    assert np.array(once.predict(x)) == pytest.approx(np.array(twice.predict(x)))
    assert once.means == pytest.approx(np.tile(np.linalg.lstsq(x, y)[0], (9, 1)), abs=0.15)
    assert once.predict(np.zeros((1, 3)))[1] == pytest.approx(1, rel=0.2)
    likelihoods = [
        multivariate_normal(
            x[:4] @ mean, (x[:4] * sd**2) @ x[:4].T + np.diag(variance + known_sd[:4] ** 2)
        )
        for variance in variances
    ]
    logs = np.array([it.logpdf(y[:4]) for it in likelihoods])
    assert np.ptp(four.log_weights - logs) < 1e-9
