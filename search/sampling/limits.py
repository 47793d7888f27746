"""Configurations within a study's limits, found before they become trials.

What exceeds `max_parameters` or `max_multiply_adds` is no trial: it is drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from models import ArchitectureError
from search.spec.config import StudySpec
from search.spec.domains import Range, SpecError
from search.spec.recipe import RECIPE
from search.spec.space import (
    distributions,
    limits,
    searched,
    share_of_baseline,
    share_of_limits,
    suggest,
)
from search.store.database import optuna_warnings_only

CHECKED = 100  # draws by which a study is judged before it begins
MOST_DRAWS = 1000  # for one that fits
NEAR_OF = 16  # networks that fit, of which the one nearest to a proposal is taken


@dataclass(frozen=True, slots=True)
class Limits:
    """Those of one study, on images of this kind: (channels, height, width) and classes."""

    spec: StudySpec
    image_shape: tuple[int, int, int]
    classes: int

    def fit(self, params: Mapping[str, Any]) -> bool:
        """Whether parameters, as Optuna stores them, make a network within the limits."""
        return self._share(params)[0] <= 1

    def draw(self, random: optuna.Study) -> dict[str, Any]:
        """A configuration that fits; `random`: a study in memory that makes random draws.

        Raises:
            SpecError: hardly any fits.
        """
        space = distributions(self.spec)
        for _ in range(MOST_DRAWS):
            if self.fit(params := random.ask(space).params):
                return params
        named = " and ".join(limits(self.spec))
        raise SpecError("space", f"of {MOST_DRAWS} random draws from [space] none fits {named}")

    def nearest(self, params: Mapping[str, Any], random: optuna.Study) -> dict[str, Any]:
        """The configuration; if it is too large, with the most similar of some networks that fit.

        How it is trained stays: all that a sampler has learned of that is of use.
        """
        if self.fit(params):
            return dict(params)
        network = {name: one for name, one in searched(self.spec).items() if name not in RECIPE}

        def distance(other: Mapping[str, Any]) -> float:
            return sum(
                (one.position(params[name]) - one.position(other[name])) ** 2
                if isinstance(one, Range)
                else params[name] != other[name]
                for name, one in network.items()
            )

        near = min((self.draw(random) for _ in range(NEAR_OF)), key=distance)
        return {name: near[name] if name in network else it for name, it in params.items()}

    @optuna_warnings_only()
    def check(self) -> str:
        """For people: how much of the space fits, and whether the baseline does.

        Raises:
            SpecError: of many random draws none fits.
        """
        random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        space = distributions(self.spec)
        found = sorted(self._share(random.ask(space).params) for _ in range(CHECKED))
        fitting = sum(share <= 1 for share, _ in found)
        if not fitting:
            raise SpecError(
                next(iter(limits(self.spec))),
                f"of {CHECKED} random draws from [space] none fits: the smallest network "
                f"{found[0][1]}; raise the limit or allow smaller networks, by fewer channels or "
                'hidden units or head = "global"',
            )
        named = " and ".join(f"{name} = {most:_}" for name, most in limits(self.spec).items())
        text = f"{fitting} of {CHECKED} random draws fit {named}; others will not be trials."
        if self.spec.baseline is None:
            return text
        share, words = share_of_baseline(self.spec, self.image_shape, self.classes)
        return text if share <= 1 else f"{text} The baseline is left out: it {words}."

    def _share(self, params: Mapping[str, Any]) -> tuple[float, str]:
        """See `share_of_limits`; infinite for what makes no network."""
        try:
            network = suggest(optuna.trial.FixedTrial(dict(params)), self.spec).architecture
            return share_of_limits(network, self.spec, self.image_shape, self.classes)
        except (SpecError, ArchitectureError) as error:
            return math.inf, f"cannot be built ({error})"


def limits_of(spec: StudySpec, image_shape: tuple[int, int, int], classes: int) -> Limits | None:
    """None where there are none, and of a comparison: its arms are checked beforehand."""
    limited = limits(spec) and not spec.is_comparison
    return Limits(spec, image_shape, classes) if limited else None
