"""How much of the spread of the losses each searched parameter explains: Optuna's fANOVA.

Hutter, Hoos and Leyton-Brown (2014), "An efficient approach for assessing hyperparameter
importance": a random forest is fitted to the losses, and its variance divided among parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial

from search.reporting.comparison import guessing_loss
from search.trials.stored_params import distributions
from search.trials.view import StudyView

FEWEST = 12  # complete trials, and more than twice as many as parameters
TREES, FEW_TREES = 64, 16
RESAMPLES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Importances:
    """Shares of the variance, highest first, adding up to 1.

    Attributes:
        spread: of each share, the standard deviation when trials are drawn again with replacement.
        complete: trials that it is estimated from.
    """

    shares: Mapping[str, float]
    spread: Mapping[str, float]
    complete: int


def needed(view: StudyView) -> int:
    """How many complete trials importances take."""
    return max(FEWEST, 2 * len(distributions(view.spec)))


def usable(view: StudyView) -> list[FrozenTrial]:
    """Complete trials whose parameters are what they trained with: not the baseline.

    Losses above guessing's count as guessing's; a few huge ones would be all there is to explain.
    """
    space = distributions(view.spec)
    guessing = guessing_loss(view)
    return [
        create_trial(
            params={name: trial.params[name] for name in space},
            distributions=dict(space),
            value=min(best.validation_loss, guessing),
        )
        for trial in view.in_state("complete")
        if not trial.is_baseline
        and (best := trial.best) is not None
        and space.keys() <= trial.params.keys()
    ]


def importances(view: StudyView) -> Importances | None:
    """None where fewer trials are complete than `needed`, or fewer than two parameters searched.

    Always the same for the same trials.
    """
    trials = usable(view)
    if len(distributions(view.spec)) < 2 or len(trials) < needed(view):
        return None
    if len({trial.value for trial in trials}) == 1:
        return None  # nothing to explain
    shares = _evaluate(trials, TREES)
    draws = np.random.default_rng(0).integers(len(trials), size=(RESAMPLES, len(trials)))
    again = [_evaluate([trials[place] for place in draw], FEW_TREES) for draw in draws]
    return Importances(
        shares=shares,
        spread={name: stdev(found.get(name, 0.0) for found in again) for name in shares},
        complete=len(trials),
    )


def _evaluate(trials: Sequence[FrozenTrial], trees: int) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study()
        study.add_trials(trials)
        evaluator = FanovaImportanceEvaluator(n_trees=trees, seed=0)
        found = get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}
