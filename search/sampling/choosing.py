"""How the next configuration is drawn, and which trials are stopped early.

**Sampler.** By default a Gaussian process for the first hundred trials, see
`search.sampling.gaussian_process`; the first ten are random. After them, or where a study file says
`sampler = "tpe"`, the tree-structured Parzen estimator (Bergstra et al. 2011; Optuna's default):
mixed kinds of parameters, and an order of merit that pruned trials take part in. Multivariate (the
default in Optuna 5), because learning rate, width and weight decay depend on each other. Which
trials are the good ones is what the pruner's rungs say, see `search.sampling.halving.best_first`.

**Pruner.** Optuna's default compares with COMPLETED trials only, so that pruned trials, most of
what is known of the early epochs, count for nothing; Hyperband splits fifty trials into
brackets that do not learn from each other. Here each rung compares with every trial that
reached it, see `search.sampling.halving`. The first rung lies inside the first epoch, where most of
the time of a bad trial would go. The price: trials that start slowly and would end well, such as
strongly regularised ones, are stopped too, though fewer of them where the mean of the weights is
validated (`search.training.step`); where there is time, `pruner = "none"` in a study file, or
more trials, is the remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from search.sampling.gaussian_process import GaussianProcessSampler
from search.sampling.halving import HalvingPruner, rungs
from search.sampling.tpe import Memory, RememberingTPESampler, Shown
from search.spec.config import StudySpec
from search.spec.space import ARM, REPEAT
from search.store.history import Standing
from search.training.epoch import derived_seed

STARTUP_TRIALS = 10  # drawn at random before the sampler models anything


class SeededSampler(optuna.samplers.BaseSampler):
    """Draws trial n from a generator seeded by (study's seed, n), whatever process asks.

    Optuna's samplers are not stored with a study: made again with one seed they repeat their
    first draws, without one a resumed study is not reproducible. With this, what a trial gets
    depends on the study's seed, its number and the trials before it alone.
    """

    def __init__(self, make: Callable[[int], optuna.samplers.BaseSampler], study_seed: int) -> None:
        self._make = make
        self._study_seed = study_seed
        self._number = -1
        self._current = make(0)

    def _for(self, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
        if trial.number != self._number:
            seed = derived_seed(self._study_seed, "sampler", trial.number)
            self._current, self._number = self._make(seed % 2**32), trial.number
        return self._current

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._for(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._for(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._for(trial).before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._for(trial).after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Nothing to do: the seed follows from the trial."""


class ArmSampler(optuna.samplers.BaseSampler):
    """Gives each trial of a comparison its arm and its repeat, by the trial's number alone."""

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        arm, repeat = self._spec.place_of(trial.number)
        return {ARM: arm.name, REPEAT: repeat}[param_name]


def make_sampler(spec: StudySpec, shown: Shown | None = None) -> optuna.samplers.BaseSampler:
    """The study's sampler; to be made at every start, as Optuna does not store it.

    Args:
        shown: the trials to learn from, see `search.store.evidence`; None: all of the study.
    """
    if spec.is_comparison:
        return ArmSampler(spec)
    if spec.sampler == "random":
        return SeededSampler(lambda seed: optuna.samplers.RandomSampler(seed=seed), spec.seed)
    at = rungs(spec.epochs)
    by_rungs = Memory(at)
    memory = by_rungs if spec.pruner == "halving" else Memory()
    if spec.sampler == "tpe":
        return SeededSampler(
            lambda seed: RememberingTPESampler(
                memory, seed=seed, n_startup_trials=STARTUP_TRIALS, shown=shown
            ),
            spec.seed,
        )
    return SeededSampler(
        lambda seed: GaussianProcessSampler(
            at, by_rungs, memory, seed=seed, n_startup_trials=STARTUP_TRIALS, shown=shown
        ),
        spec.seed,
    )


def make_pruner(
    spec: StudySpec, standing_at: Callable[[int, int], Standing | None]
) -> optuna.pruners.BasePruner:
    """The study's pruner; to be made at every start, as Optuna does not store it."""
    match spec.pruner:
        case "halving":
            return HalvingPruner(standing_at)
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        case "none":
            return optuna.pruners.NopPruner()


def is_hopeless(study: optuna.Study, trial_id: int, epoch: int) -> bool:
    """What the study's pruner says of a running trial after an epoch, which was reported."""
    match study.pruner:
        case optuna.pruners.NopPruner():
            return False
        case HalvingPruner() as pruner:
            return pruner.stops(study, trial_id, epoch)
        case _:
            # A trial made anew knows all its reports, also those of workers before us.
            return Trial(study, trial_id).should_prune()
