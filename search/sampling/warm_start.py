"""What earlier studies say of a new study's space, and how far they are believed.

Some of their best configurations are among the first trials. Beside that their trials are shown to
the sampler as weak evidence: the fewer the more trials the study has itself. Both only as far as
they foretell how the study's own trials compare. So a misleading study costs a trial or two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

from search.sampling.forecast import Array
from search.spec.earlier import Earlier, Params

FIRST = 5  # of their best configurations, every other trial; in short studies of trials a tenth
APART = 0.5  # distance that these have at least; a choice's others are 1.4 away, a range is 2 wide
SHOWN = 40  # of their trials at most, and one less for each of the study's own
TRUST, TRUST_COUNTS = 0.3, 3  # rank correlation that is believed at first, as if of so many trials
TRUSTED = 0.25  # for a configuration to be tried
RIDGE = 3.0


class Evidence:
    """Of earlier studies, for a study of such a space.

    Attributes:
        known: their configurations, the best first, and where these ended: in standard deviations
            above the mean of their study.
    """

    def __init__(self, earlier: Sequence[Earlier], space: Mapping[str, BaseDistribution]) -> None:
        self._space = space
        pairs = [pair for one in earlier for pair in one.configurations]
        pairs = [(params, end) for params, end in pairs if space.keys() <= params.keys()]
        self.known = sorted(pairs, key=lambda pair: pair[1])
        x_NF = np.array([self._features(params) for params, _ in self.known])
        y_N = np.array([end for _, end in self.known])
        self._weights_F = ridge(x_NF, y_N) if pairs else None

    def first(self, trials: int) -> list[Params]:
        """What a study of so many trials begins with: the best that are not all alike."""
        found: list[Params] = []
        for params, _ in self.known:
            near = [math.dist(self._point(params), self._point(other)) for other in found]
            if len(found) < min(FIRST, math.ceil(trials / 10)) and min(near, default=9) >= APART:
                found.append(params)
        return found

    def foretell(self, params: Params) -> float:
        """Where a configuration ends, in standard deviations above the mean; 0: nothing known."""
        return 0.0 if self._weights_F is None else float(self._features(params) @ self._weights_F)

    def given(self, place: int, trials: int, own: Sequence[FrozenTrial]) -> Params | None:
        """What they give to the trial at this place, from 0; None: it is drawn.

        Two trials come before: if they are not as foretold, no trial is wasted.
        """
        if not 2 <= place <= 2 * FIRST or place % 2 or self.trust(own) < TRUSTED:
            return None
        taken = [one.params for one in own]
        return next((params for params in self.first(trials) if params not in taken), None)

    def trust(self, own: Sequence[FrozenTrial]) -> float:
        """Rank correlation, from 0 to 1, of what they foretell with the study's own trials.

        Args:
            own: with values where these are known; logarithms of the final objective.
        """
        found = [(self.foretell(one.params), one.value) for one in own if one.value is not None]
        seen, agreement = len(found), 0.0
        if seen < 2:
            seen = 0  # one says nothing
        else:
            ranks_2N = np.array(found).T.argsort().argsort()
            agreement = float(np.ravel(np.corrcoef(ranks_2N))[1])
        trust = (TRUST * TRUST_COUNTS + agreement * seen) / (TRUST_COUNTS + seen)
        return max(trust, 0.0) if self.known else 0.0

    def shown_beside(self, own: Sequence[FrozenTrial], trust: float) -> list[tuple[Params, float]]:
        """What a sampler is shown of them beside the study's own trials, in these trials' unit."""
        found = [(self.foretell(one.params), one.value) for one in own if one.value is not None]
        count = min(round(trust * (SHOWN - len(found))), len(self.known))
        if count < 1:
            return []
        foretold_N, ends_N = np.array(found).T if found else np.zeros((2, 1))
        sd = float(np.std(ends_N)) if len(found) > 2 else 1.0
        mean = float(np.mean(ends_N - sd * foretold_N))
        places = np.linspace(0, len(self.known) - 1, count).round().astype(int)
        return [(self.known[at][0], mean + sd * self.known[at][1]) for at in places]

    def _point(self, params: Params) -> list[float]:
        """Numbers from -1 to 1, choices 1.4 apart."""
        point: list[float] = []
        for name, domain in self._space.items():
            point += _coordinates(domain, params[name])
        return point

    def _features(self, params: Params) -> Array:
        """A constant, the point, and its squares: an optimum inside can be seen, (F,)."""
        point = np.array(self._point(params))
        return np.concatenate([[1.0], point, point**2])


def ridge(x_NF: Array, y_N: Array) -> Array:
    """Coefficients of a linear regression; the first, of the constant, is all but free."""
    penalty = np.diag([1e-3, *[RIDGE] * (x_NF.shape[1] - 1)])
    return np.asarray(np.linalg.solve(x_NF.T @ x_NF + penalty, x_NF.T @ y_N))


def _coordinates(domain: Any, value: Any) -> list[float]:
    if isinstance(domain, CategoricalDistribution):
        return [float(value == choice) for choice in domain.choices]
    low, high = domain.low, domain.high
    if domain.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return [2 * (value - low) / (high - low) - 1 if high > low else 0.0]
