"""Proposes the next configuration: Optuna's samplers, fed with forecasts for unfinished trials.

Optuna's samplers learn from complete trials, but most of ours are stopped early. Each proposal is
therefore made in an in-memory study that holds every trial as complete, with an estimate of its
final loss (`search.sampling.forecast`). Running trials without a report are RUNNING there as well,
so that workers spread out. Random untrained configurations are added with their expected losses, so
that the sampler starts with what other data sets say about the whole space.

A proposal takes 0.1 to 0.3 s of one core with the Gaussian process and 0.02 s with TPE: if trials
take a second, choose TPE. See docs/figures.md for how they compare with random search.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.sampling.chooser import contender_of
from search.sampling.forecast import Contender, best_and_latest, fit, support
from search.sampling.limits import Limits
from search.sampling.priors import as_recorded, promise, recorded_parameters
from search.sampling.registry import STARTUP_TRIALS, find_sampler, make_sampler
from search.spec.config import StudySpec
from search.spec.domains import distance
from search.spec.space import ARM, REPEAT, distributions, searched, values_of
from search.store.database import optuna_warnings_only
from search.training.epoch import derived_seed

PROMISED_OF = 8  # half of the first trials: the most promising of this many random ones
# A configuration that the study has is replaced by the nearest of those left in a space of up to
# LISTED; else its real numbers move by this share of the way to those of a random draw.
LISTED, RETRIES, MOVE = 10_000, 20, 0.1
HIGHEST = 2.5  # standard deviations above the mean: how bad the worst trials are does not matter


class StudySampler(BaseSampler):
    """Samples trial n with a generator seeded by (study's seed, n), whichever process asks.

    Optuna does not store samplers with a study: recreated with the same seed they repeat their
    first draws, and without a seed a resumed study is not reproducible. Here a configuration
    depends only on the study's seed, the trial's number and the trials before it.

    Args:
        prior: see `search.sampling.priors.prior_for`; None if nothing is known of other data sets.
        limits: that no configuration exceeds; see `search.sampling.limits.limits_of`.
        begun: reads the study's started trials; None: Optuna reads them, in full.

    Raises:
        SpecError: there is no sampler of that name.
    """

    def __init__(
        self,
        spec: StudySpec,
        prior: Path | None,
        limits: Limits | None = None,
        *,
        begun: Callable[[], Sequence[Contender]] | None = None,
    ) -> None:
        self._spec, self._prior, self._limits, self._begun = spec, prior, limits, begun
        self._entry = find_sampler(spec.sampler)
        self._space, self._usual = distributions(spec), recorded_parameters(spec)
        self._current: tuple[int, BaseSampler] | None = None
        self._drawn: tuple[list[int], dict[str, Any]] | None = None  # see `sample_relative`

    def _others(self, study: optuna.Study, number: int) -> list[Contender]:
        """The started trials except this one."""
        if self._begun is not None:
            return [one for one in self._begun() if one.number != number]
        return [
            contender_of(it, self._spec, self._usual)
            for it in study.get_trials(deepcopy=False)
            if it.state != TrialState.WAITING and it.number != number
        ]

    def _known(
        self, others: Sequence[Contender], untried: Sequence[Mapping[str, Any]]
    ) -> list[FrozenTrial]:
        """The others that lie in the space, as complete trials with estimated final losses.

        Of a long study only the best, the latest and those just begun, which bounds the cost of a
        proposal. Untried configurations are added with their expected losses.
        """
        names = self._space.keys()
        inside = [it for it in others if it.in_space and names <= it.params.keys()]
        told = best_and_latest(
            [one for one in inside if one.state != "failed"],
            lambda one: one.state == "running" and not one.curve,
        )
        forecast = fit(told, self._spec.epochs, self._prior)
        estimates = forecast.estimates(told)
        logs = {number: mean for number, (mean, _) in estimates.items()}
        finite = list(logs.values())
        highest = float(np.mean(finite) + HIGHEST * np.std(finite)) if finite else 0.0
        rows = [
            (one.params, logs.get(one.number), one.size)
            for one in told
            if one.number in logs or one.state == "running"  # not stopped before its first report
        ]
        if finite and untried:
            recorded = [as_recorded(params, self._usual) for params in untried]
            expected = forecast.untried(recorded, estimates, told).tolist()
            rows += [(params, loss, 0.0) for params, loss in zip(untried, expected, strict=True)]
        known = []
        for params, loss, size in rows:
            sizes = [size] if self._spec.minimize_also else []
            with contextlib.suppress(ValueError):  # queued by hand, from outside the space
                known.append(
                    create_trial(
                        state=TrialState.RUNNING if loss is None else TrialState.COMPLETE,
                        values=None if loss is None else [min(loss, highest), *sizes],
                        params={name: params[name] for name in self._space},
                        distributions=self._space,
                    )
                )
        return known

    def _sampler(self, number: int) -> BaseSampler:
        if self._current is None or self._current[0] != number:
            self._current = number, make_sampler(self._spec, self._seed(number))
        return self._current[1]

    def _seed(self, number: int) -> int:
        return derived_seed(self._spec.seed, "sampler", number) % 2**32

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Asked again, it gives the same, unless others have got their parameters meanwhile."""
        if self._spec.is_comparison:
            return {}
        others = self._others(study, trial.number)
        if not self._entry.on_estimates:  # it may store something while it draws
            return self._sample(study, trial, others)
        seen = [trial.number, *(one.number for one in others if one.params)]
        if self._drawn is None or self._drawn[0] != seen:
            self._drawn = seen, self._sample(study, trial, others)
        return {**self._drawn[1]}

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, others: Sequence[Contender]
    ) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        number, held = trial.number, values_of(trial, self._spec)
        limits = None if self._limits is None else self._limits.beside(trial)
        # With more threads a draw took ten times as long: the matrices are tiny.
        with optuna_warnings_only(), threadpool_limits(1):
            chance = optuna.samplers.RandomSampler(seed=self._seed(number))
            random = optuna.create_study(sampler=chance)

            def draw() -> dict[str, Any]:
                """At random, within the limits."""
                drawn = random.ask(self._space).params if limits is None else limits.draw(random)
                return {**drawn, **held}

            if self._entry.on_estimates:
                params = self._propose(number, others, random, draw)
            else:
                params = self._draw_in(study, trial)
            if limits is not None:
                params = limits.nearest(params, random)
            params = {**params, **held}
            taken = {_key(other.params) for other in others}
            if _key(params) in taken:
                near = self._near(params, held, taken, draw)
                fitting = (it for it in near if limits is None or limits.fit(it))
                params = next(fitting, params)
            return {name: params[name] for name in self._space}

    def _near(
        self,
        params: Mapping[str, Any],
        held: Mapping[str, Any],
        taken: Collection[object],
        draw: Callable[[], dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """Configurations that are not taken, the first near this one, which is."""
        # Without those held, which are the same in all and may lie outside a logarithmic range.
        varied = self._space.keys() - held.keys()
        domains = {name: it for name, it in searched(self._spec).items() if name in varied}

        def moved(drawn: Mapping[str, Any]) -> dict[str, Any]:
            found = {**params}
            for name, domain in domains.items():
                if domain.listed is None:
                    found[name] = domain.between(params[name], drawn[name], MOVE)
            return found

        others, steps = self._left(held, taken), list[dict[str, Any]]()
        if others is None:
            others = [draw() for _ in range(RETRIES)]
            steps = list(map(moved, others))
        nearest = sorted(others, key=lambda other: distance(domains, params, other))
        return [it for it in (*steps, *nearest) if _key(it) not in taken]

    def _left(
        self, held: Mapping[str, Any], taken: Collection[object]
    ) -> list[dict[str, Any]] | None:
        """The configurations with these values that are not taken; None if there are too many to
        list them."""
        open_ones = searched(self._spec)
        values = [[held[name]] if name in held else open_ones[name].listed for name in self._space]
        listed = [it for it in values if it is not None]
        if len(listed) < len(values) or math.prod(map(len, listed)) > LISTED:
            return None
        every = ({**dict(zip(self._space, it, strict=True)), **held} for it in product(*listed))
        return [it for it in every if _key(it) not in taken]

    def _propose(
        self,
        number: int,
        others: Sequence[Contender],
        random: optuna.Study,
        draw: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """A configuration based on what is known about the study's trials."""
        if number < STARTUP_TRIALS and number % 2 == 1:
            is_refuted = support(others, self._prior) < 0
            few = (draw() for _ in range(1 if is_refuted else PROMISED_OF))
            return min(few, key=lambda it: promise(as_recorded(it, self._usual), self._prior))
        lowered = 2 if self._spec.minimize_also else 1
        directions = [optuna.study.StudyDirection.MINIMIZE] * lowered
        memory = optuna.create_study(directions=directions, sampler=self._sampler(number))
        # For a parameter that it does not know, or for size, the prior would say: no difference.
        is_told = lowered == 1 and self._space.keys() <= self._usual.keys()
        count = self._entry.untried if is_told and number >= STARTUP_TRIALS else 0
        untried = [random.ask(self._space).params for _ in range(count)]
        memory.add_trials(self._known(others, untried))
        return memory.ask(self._space).params

    def _draw_in(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """The whole configuration from a sampler that works on the study itself, asked as `suggest`
        would ask it."""
        sampler, seen = self._sampler(trial.number), copy(trial)
        space = sampler.infer_relative_search_space(study, trial)
        drawn = sampler.sample_relative(study, trial, space)
        for name in self._spec.parameters:
            if name not in self._space or name in seen.params:
                continue
            if name not in drawn:
                drawn[name] = sampler.sample_independent(study, seen, name, self._space[name])
            seen.params = {**seen.params, name: drawn[name]}
        return seen.params

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if self._spec.is_comparison:  # every arm, then every arm again
            arm, repeat = self._spec.place_of(trial.number)
            return {ARM: arm.name, REPEAT: repeat}[param_name]
        return self._sampler(trial.number).sample_independent(
            study, trial, param_name, param_distribution
        )


def _key(params: Mapping[str, Any]) -> object:
    """Equal for configurations that are the same but for rounding: 0.03 is 0.029999999999999995."""
    rounded = ((k, f"{it:.9g}" if isinstance(it, float) else it) for k, it in params.items())
    return frozenset(rounded)
