"""The samplers and pruners that a study file can name; loads neither Optuna nor PyTorch.

To add one, assign an entry, also from a study's extension file:

    SAMPLERS["qmc"] = Sampler(description="...", make=lambda spec, seed: QMCSampler(seed=seed))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from data.extensions import line_of
from models.checks import first_line, shown
from models.family import choice
from search.sampling import halving
from search.spec.domains import SpecError, check_fields

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from search.sampling.forecast import Contender
    from search.spec.config import StudySpec
    from search.store.claims import Choice

T = TypeVar("T")
WHOLE = 2  # trials that "promotion" trains to their ends; one may be the baseline
STARTUP_TRIALS = 10  # drawn at random, half with the help of the prior, before any model
# (epoch, a trial's lowest value, those of all others that reached this epoch) -> stop it?
Rule = Callable[[int, float, Sequence[float]], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """How the next configuration is chosen.

    Attributes:
        description: one line, a noun phrase: "a grid".
        make: (specification, seed) -> any Optuna sampler; called for each trial with its own seed.
        on_estimates: whether it works on an in-memory study that holds all trials as complete, with
            estimated final losses (see `search.sampling.forecast`). False: it gets the study
            itself, for samplers that keep their state in the study. True: of the first
            STARTUP_TRIALS, every other one is chosen without it.
        untried: how many untrained configurations are added to those trials, with their expected
            losses; none if the study searches a parameter that the recorded curves lack.
    """

    description: str
    make: Callable[[StudySpec, int], BaseSampler]
    on_estimates: bool = True
    untried: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruner:
    """Which trials are stopped early.

    Attributes:
        description: one line, a noun phrase.
        make: specification -> any Optuna pruner, or a `Rule`. By default nothing is stopped.
        rungs: maximum epochs per trial -> the epochs after which it is asked; 0 is the
            partial-epoch validation. Never the last: a trial is complete there.
        unjudged: number of first trials that it never stops.
        expected_epochs: maximum epochs per trial -> how many a later trial trains on average, used
            until the study itself shows it.
        whole: how many trials of a study `choose` trains to their ends even if the budget is spent.
        choose: for a rule that pauses trials at its rungs instead, and resumes them while the
            study's budget lasts: what a free worker trains next, with the arguments of
            `search.sampling.promotion.choose`. A trial continues from a rung if chosen there.
    """

    description: str
    make: Callable[[StudySpec], BasePruner | Rule] = lambda _spec: lambda *_: False
    rungs: Callable[[int], Sequence[int]] = lambda epochs: range(1, epochs)
    unjudged: int = 0
    expected_epochs: Callable[[int], float] = float
    whole: int = 0
    choose: Callable[..., Choice] | None = None


def _optunas(name: str, **options: Any) -> Callable[[StudySpec, int], BaseSampler]:
    """`Sampler.make` for a class of `optuna.samplers`, which takes half a second to import."""

    def make(_spec: StudySpec, seed: int) -> BaseSampler:
        sampler: BaseSampler = getattr(import_module("optuna.samplers"), name)(seed=seed, **options)
        return sampler

    return make


def _median(_spec: StudySpec) -> BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=5, n_warmup_steps=1)


def _promotion(contenders: Sequence[Contender], **limits: Any) -> Choice:
    from search.sampling.promotion import choose

    return choose(contenders, **limits)


SAMPLERS: dict[str, Sampler] = {
    "gp": Sampler(
        description="a Gaussian process on estimated final losses",
        make=_optunas(
            "GPSampler", n_startup_trials=STARTUP_TRIALS, warn_independent_sampling=False
        ),
        untried=30,
    ),
    "tpe": Sampler(
        description="a tree-structured Parzen estimator (TPE) on estimated final losses",
        make=_optunas("TPESampler", n_startup_trials=STARTUP_TRIALS),
    ),
    "random": Sampler(
        description="random search", make=_optunas("RandomSampler"), on_estimates=False
    ),
    "grid": Sampler(
        description="a grid: every arm, every repeat",
        make=_optunas("RandomSampler"),  # not asked: `StudySampler` itself assigns the arms
    ),
}

PRUNERS: dict[str, Pruner] = {
    "halving": Pruner(
        description="asynchronous successive halving: at each rung (inside the first epoch, then "
        "after 1, 2, 4, 8, ...) the best of the trials so far continue",
        make=lambda _spec: halving.rule,
        rungs=halving.rungs,
        unjudged=halving.RIVALS,
        expected_epochs=halving.expected_epochs,
    ),
    "median": Pruner(
        description="Optuna's MedianPruner: stops trials worse than the median of complete ones",
        make=_median,
        unjudged=5,
        expected_epochs=lambda epochs: 1 + 0.5 * (epochs - 1),
    ),
    "none": Pruner(
        description="no pruning: all trials run to their end",
        rungs=lambda _epochs: (),
    ),
    "promotion": Pruner(
        description="trials pause at each rung (as above), and the most promising resume while the "
        "budget lasts (in [study]; a share of trials x epochs, by default 0.3)",
        rungs=halving.rungs,
        expected_epochs=partial(halving.expected_epochs, share=halving.PROMOTED),
        whole=WHOLE,
        choose=_promotion,
    ),
}


def find_sampler(name: str) -> Sampler:
    """Raises SpecError for an unknown name, listing the known ones."""
    check_fields({"sampler": name}, {"sampler": choice(SAMPLERS, name, "")})
    return SAMPLERS[name]


def find_pruner(name: str) -> Pruner:
    """Raises SpecError for an unknown name, listing the known ones."""
    check_fields({"pruner": name}, {"pruner": choice(PRUNERS, name, "")})
    return PRUNERS[name]


def make_sampler(spec: StudySpec, seed: int) -> BaseSampler:
    """Raises SpecError: the study's sampler is unknown, or its `make` does not return one."""
    from optuna.samplers import BaseSampler

    make = partial(find_sampler(spec.sampler).make, spec, seed)
    return _made("sampler", spec.sampler, make, lambda it: isinstance(it, BaseSampler))


def make_pruner(spec: StudySpec) -> BasePruner | Rule:
    """Raises SpecError: the study's pruner is unknown, or its `make` does not return one."""
    from optuna.pruners import BasePruner

    def fits(made: object) -> bool:
        return isinstance(made, BasePruner) or (callable(made) and not isinstance(made, type))

    return _made("pruner", spec.pruner, partial(find_pruner(spec.pruner).make, spec), fits)


def _made(kind: str, name: str, make: Callable[[], T], fits: Callable[[object], bool]) -> T:
    try:
        made = make()
    except Exception as error:  # the user's code
        what = f"{line_of(error)}{type(error).__name__}: {first_line(error)}"
        raise SpecError(kind, f"{kind} {name!r} cannot be made ({what}); fix its make") from error
    if not fits(made):
        of = f"an instance of an Optuna {kind}{' or a function' if kind == 'pruner' else ''}"
        raise SpecError(kind, f"{kind} {name!r}: make must return {of}, but got {shown(made)}")
    return made


def epoch_budget(spec: StudySpec) -> float | None:
    """Epochs that a study may spend on all its trials; None if each runs until it is stopped."""
    pauses = find_pruner(spec.pruner).choose is not None
    return spec.budget * spec.trials * spec.epochs if pauses else None
