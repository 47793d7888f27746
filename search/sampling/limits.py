"""Keeps configurations within a study's limits, before they become trials.

One that exceeds `max_parameters` or `max_multiply_adds` never becomes a trial: it is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import FixedTrial, FrozenTrial

from data.errors import grouped
from models import ArchitectureError
from models.checks import shown
from search.spec.config import StudySpec
from search.spec.domains import Domain, SpecError, distance
from search.spec.recipe import RECIPE
from search.spec.space import (
    OVERRIDES,
    distributions,
    limits,
    searched,
    share_of_baseline,
    share_of_limits,
    suggest,
)
from search.store.database import optuna_warnings_only

CHECKED = 100  # random draws that check a study before it begins
MOST_DRAWS = 1000  # until one fits
NEAR_OF = 16  # networks that fit; the one nearest to a proposal is taken


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one study, on images of this shape (channels, height, width) and classes.

    Attributes:
        held: parameters that a configuration has in any case, as Optuna stores them.
        overrides: in place of others, see `search.spec.space.OVERRIDES`.
    """

    spec: StudySpec
    image_shape: tuple[int, int, int]
    classes: int
    held: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def beside(self, trial: FrozenTrial) -> Limits:
        """For what is sampled in addition to what a queued trial holds already."""
        return replace(self, held=trial.params, overrides=trial.user_attrs.get(OVERRIDES, {}))

    def fit(self, params: Mapping[str, Any]) -> bool:
        """Whether the parameters, as Optuna stores them, give a network within the limits."""
        return self._share(params)[0] <= 1

    @optuna_warnings_only()
    def fit_with(self, params: Mapping[str, Any]) -> bool:
        """Whether they do together with random values of the others."""
        random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        with suppress(SpecError):
            replace(self, held=params).draw(random)
            return True
        return False

    def draw(self, random: optuna.Study) -> dict[str, Any]:
        """A random configuration that fits; `random`: an in-memory study with a random sampler.

        Raises SpecError if hardly any configuration fits.
        """
        space, shares = distributions(self.spec), list[tuple[float, str]]()
        draws = MOST_DRAWS if self._open() else 1
        for _ in range(draws):
            params = {**random.ask(space).params, **self.held}
            shares.append(self._share(params))
            if shares[-1][0] <= 1:
                return params
        told = min(shares)[1]
        if draws == 1:
            raise SpecError("space", f"its network {told}")
        queued = [f"{n} = {shown(it)}" for n, it in {**self.held, **self.overrides}.items()]
        drawn = f"with {', '.join(queued)}" if queued else "from [space]"
        problem = f"none of {grouped(draws)} random draws {drawn} fits: the smallest network {told}"
        raise SpecError("space", problem)

    def nearest(self, params: Mapping[str, Any], random: optuna.Study) -> dict[str, Any]:
        """The configuration; if it is too large, with the most similar of some networks that fit.

        The training parameters stay, because what a sampler has learned about them still holds.
        """
        wanted = {**params, **self.held}
        if self.fit(wanted):
            return wanted
        network = self._open()
        draws = (self.draw(random) for _ in range(NEAR_OF))
        near = min(draws, key=lambda other: distance(network, wanted, other))
        return {name: near[name] if name in network else it for name, it in wanted.items()}

    @optuna_warnings_only()
    def check(self, queue: Mapping[int, FrozenTrial]) -> str:
        """A message for the user: how much of the space fits, and whether the baseline does.

        Raises SpecError if none of many random draws fits, or none beside a trial of `queue`,
        which has them by the places of their configurations in the request.
        """
        random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        space = distributions(self.spec)
        found = sorted(self._share(random.ask(space).params) for _ in range(CHECKED))
        fitting = sum(share <= 1 for share, _ in found)
        if not fitting:
            raise SpecError(
                next(iter(limits(self.spec))),
                f"none of {CHECKED} random draws from [space] fits: the smallest network "
                f"{found[0][1]}; raise the limit or allow smaller networks, with fewer channels or "
                'hidden units or head = "global"',
            )
        for place, trial in queue.items():
            try:
                self.beside(trial).draw(random)
            except SpecError as error:
                problem = f"enqueue {place}: {error}; raise the limit or leave it out"
                raise SpecError("enqueue", problem) from error
        named = " and ".join(f"{name} = {most:_}" for name, most in limits(self.spec).items())
        text = f"{fitting} of {CHECKED} random draws fit {named}; others are not trained."
        if self.spec.baseline is None:
            return text
        share, words = share_of_baseline(self.spec, self.image_shape, self.classes)
        return text if share <= 1 else f"{text} The baseline is left out: it {words}."

    def _open(self) -> dict[str, Domain]:
        """What remains to be chosen of the network."""
        closed = {*self.held, *self.overrides, *RECIPE}
        return {name: one for name, one in searched(self.spec).items() if name not in closed}

    def _share(self, params: Mapping[str, Any]) -> tuple[float, str]:
        """See `share_of_limits`; infinite if no network can be built."""
        try:
            trial = FixedTrial({**params, **self.held})
            trial.set_user_attr(OVERRIDES, dict(self.overrides))
            network = suggest(trial, self.spec).architecture
            return share_of_limits(network, self.spec, self.image_shape, self.classes)
        except (SpecError, ArchitectureError) as error:
            return math.inf, f"cannot be built ({error})"


def limits_of(spec: StudySpec, image_shape: tuple[int, int, int], classes: int) -> Limits | None:
    """None if the study has none, or is a comparison, whose arms are checked beforehand."""
    limited = limits(spec) and not spec.is_comparison
    return Limits(spec, image_shape, classes) if limited else None
