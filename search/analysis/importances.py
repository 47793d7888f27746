"""How much of the losses' variance each searched parameter explains: Optuna's fANOVA (Hutter, Hoos
and Leyton-Brown 2014, "An efficient approach for assessing hyperparameter importance")."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial

from search.analysis.measures import guessing_value
from search.analysis.wording import percent
from search.spec.config import StudySpec
from search.spec.recipe import PARTIAL_EPOCH
from search.spec.space import distributions
from search.store.database import optuna_warnings_only
from search.store.records import best_epoch
from search.store.views import StudyView

FEWEST = 5  # minimum number of trials for any estimate
FEW = 12  # trials; below it, importances are little more than a hint
MOST = 150  # trials that the forest is fitted to: its cost grows faster than linearly
SHARE = 1 / 3  # minimum share of trials that have reached the epoch of comparison
RESAMPLES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Importances:
    """How much of the losses' variance each parameter explains."""

    shares: Mapping[str, float]  # highest first, adding up to 1
    spread: Mapping[str, float]  # standard deviation over bootstrap samples of the trials
    trials: int  # that it is estimated from
    epoch: int  # after which all were compared; 0: partial-epoch validation


def importances(view: StudyView) -> Importances | None:
    """None if fewer than FEWEST trials or fewer than two parameters can be compared.

    Deterministic for the same trials.
    """
    epoch, trials = comparable_trials(view)
    shares = shares_of(trials)
    if not shares:
        return None
    draws = np.random.default_rng(0).integers(len(trials), size=(RESAMPLES, len(trials)))
    again = [shares_of([trials[place] for place in draw]) for draw in draws]
    return Importances(
        shares=shares,
        spread={name: stdev(found.get(name, 0.0) for found in again) for name in shares},
        trials=len(trials),
        epoch=epoch,
    )


def comparable_trials(view: StudyView) -> tuple[int, list[FrozenTrial]]:
    """An epoch, and the trials that have trained that long, with their lowest losses up to it.

    It is the last epoch that a third of all have reached; but if that leaves fewer than FEW because
    many trials pause at rung 0, it is the partial-epoch validation, as epoch 0. Losses above that
    of guessing count as guessing. No trials if there are too few of them or too few parameters.
    """
    space, guessing = search_axes(view.spec), guessing_value(view)
    of_space = [  # not the baseline
        trial
        for trial in view.trials
        if not trial.is_baseline and trial.reports and space.keys() <= trial.params.keys()
    ]
    trained = [trial for trial in of_space if trial.curve]
    looked = [trial for trial in of_space if trial.partial_epoch is not None]
    lengths = sorted((len(trial.curve) for trial in trained), reverse=True)
    needed = max(FEWEST, math.ceil(SHARE * len(trained)))
    epoch = lengths[needed - 1] if len(trained) >= needed else 0
    reached = [trial for trial in trained if len(trial.curve) >= epoch] if epoch else []
    if len(reached) < FEW <= len(looked):
        epoch, reached = 0, looked
    if len(space) < 2:
        return epoch, []
    trials = []
    for trial in reached[-MOST:]:
        best = best_epoch(trial.curve[:epoch]) if epoch else trial.partial_epoch
        low = math.inf if best is None else best.value
        loss = low if low < guessing else guessing  # NaN, too
        params = {name: trial.params[name] for name in space}
        trials.append(create_trial(params=params, distributions=dict(space), value=loss))
    return epoch, trials


def when(epoch: int) -> str:
    """`after epoch 4`; for 0, the partial-epoch validation, `after 0.33 epochs`."""
    return f"after epoch {epoch}" if epoch else f"after {PARTIAL_EPOCH:.2g} epochs"


def search_axes(spec: StudySpec) -> dict[str, BaseDistribution]:
    """The searched parameters, those with more than one value, in the order of the space."""
    return {name: one for name, one in distributions(spec).items() if not one.single()}


def shares_of(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Each parameter's share of the variance, highest first; empty if there is none."""
    if len({trial.value for trial in trials}) < 2:
        return {}
    with warnings.catch_warnings(), optuna_warnings_only():  # this study is never shown
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study()
        study.add_trials(trials)
        try:
            evaluator = FanovaImportanceEvaluator(n_trees=32, seed=0)
            return get_param_importances(study, evaluator=evaluator)
        except RuntimeError:  # the forest finds no variance
            return {}


def importances_in_words(found: Importances) -> str:
    """What they are based on, which parameter leads, and how certain that is."""
    leading = next(iter(found.shares))
    hint = " So few trials give little more than a hint." if found.trials < FEW else ""
    if not found.epoch:
        hint = " Too few trained on to compare them later: what learns fast at first looks better."
    return (
        f"From the losses of {found.trials} trials {when(found.epoch)}: "
        f"{leading} explains {percent(found.shares[leading], 0)} of their variance (fANOVA; "
        f"{percent(found.spread[leading], 0)} is one bootstrap deviation).{hint} A good sampler "
        "crowds trials together, which makes a parameter look less important than it is."
    )
