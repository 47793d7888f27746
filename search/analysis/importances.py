"""What a search says of its parameters: their axes, and how much of the losses each explains.

Optuna's fANOVA (Hutter, Hoos and Leyton-Brown 2014, "An efficient approach for assessing
hyperparameter importance"): a random forest is fitted to the losses, and its variance divided among
parameters.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Any

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial

from search.analysis.measures import guessing_loss
from search.analysis.wording import percent
from search.spec.config import StudySpec
from search.spec.domains import Choice, Range, choice_label
from search.spec.space import distributions
from search.store.database import optuna_warnings_only
from search.store.records import best_epoch
from search.store.views import StudyView, TrialView

FEWEST = 5  # trials that anything can be said of
FEW = 12  # below it, or below twice the parameters, little more than a hint
MOST = 150  # trials that the forest is fitted to: its cost grows faster than their number
SHARE = 1 / 3  # of the trials, at least, that have trained for so many epochs
TREES, FEW_TREES = 64, 16
RESAMPLES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Importances:
    """Shares of the variance, highest first, adding up to 1.

    Attributes:
        spread: of each share, the standard deviation when trials are drawn again with replacement.
        trials: that it is estimated from.
        epoch: after which all were compared; 0: within the first, at the early look.
    """

    shares: Mapping[str, float]
    spread: Mapping[str, float]
    trials: int
    epoch: int


def importances(view: StudyView) -> Importances | None:
    """None where fewer than FEWEST trials or fewer than two parameters can be compared.

    Losses above guessing's count as guessing's; a few huge ones would be all there is to explain.
    Always the same for the same trials.
    """
    space, guessing, candidates = distributions(view.spec), guessing_loss(view), usable(view)
    epoch = common_epoch(candidates)
    if epoch is None or len(space) < 2:
        return None
    reached = [trial for trial in candidates if _has_come_to(trial, epoch)]
    places = np.linspace(0, len(reached) - 1, min(len(reached), MOST)).round().astype(int)
    trials = [
        create_trial(
            params={name: trial.params[name] for name in space},
            distributions=dict(space),
            value=loss if (loss := _loss_at(trial, epoch)) < guessing else guessing,  # nan, too
        )
        for trial in (reached[place] for place in places)
    ]
    shares = _evaluate(trials, TREES)
    if not shares:
        return None
    draws = np.random.default_rng(0).integers(len(trials), size=(RESAMPLES, len(trials)))
    again = [_evaluate([trials[place] for place in draw], FEW_TREES) for draw in draws]
    return Importances(
        shares=shares,
        spread={name: stdev(found.get(name, 0.0) for found in again) for name in shares},
        trials=len(trials),
        epoch=epoch,
    )


def usable(view: StudyView) -> list[TrialView]:
    """Trials of the space that have reported a loss: not the baseline."""
    space = distributions(view.spec)
    return [
        trial
        for trial in view.trials
        if not trial.is_baseline and trial.reports and space.keys() <= trial.params.keys()
    ]


def common_epoch(trials: Sequence[TrialView]) -> int | None:
    """The last epoch that a third of the trials have trained, and FEWEST; None if there is none.

    Losses of different epochs cannot be compared, and the longer trials have trained the fewer are
    left: so pruned trials count with what they had shown by then.
    """
    most = max((len(trial.curve) for trial in trials), default=0)
    wanted = max(FEWEST, SHARE * len(trials))
    for epoch in range(most, -1, -1):
        if sum(_has_come_to(trial, epoch) for trial in trials) >= wanted:
            return epoch
    return None


def _has_come_to(trial: TrialView, epoch: int) -> bool:
    return len(trial.curve) >= epoch > 0 or (epoch == 0 and trial.early_look is not None)


def _loss_at(trial: TrialView, epoch: int) -> float:
    """The lowest up to that epoch, or of the early look alone."""
    row = best_epoch(trial.curve[:epoch]) if epoch else trial.early_look
    return math.inf if row is None else row.validation_loss


def _evaluate(trials: Sequence[FrozenTrial], trees: int) -> dict[str, float]:
    """Empty where there is no variance to explain: in a draw of few trials, say, of one loss."""
    if len({trial.value for trial in trials}) == 1:
        return {}
    with warnings.catch_warnings(), optuna_warnings_only():  # nobody else gets to see this study
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study()
        study.add_trials(trials)
        evaluator = FanovaImportanceEvaluator(n_trees=trees, seed=0)
        try:
            return get_param_importances(study, evaluator=evaluator)
        except RuntimeError:  # the forest sees none
            return {}


def when_in_words(epoch: int) -> str:
    return f"after epoch {epoch}" if epoch else "at the early look within epoch 1"


def importances_in_words(found: Importances) -> str:
    """What it rests on, what leads, and how sure that is."""
    leading = next(iter(found.shares))
    few = found.trials < max(FEW, 2 * len(found.shares))
    hint = " So few trials give little more than a hint." if few else ""
    return (
        f"From the losses of {found.trials} trials {when_in_words(found.epoch)}: "
        f"{leading} explains {percent(found.shares[leading], 0)} of their variance (fANOVA; "
        f"{percent(found.spread[leading], 0)} is one bootstrap deviation).{hint} Where trials "
        "crowd, as a good sampler makes them, a parameter looks less important than it is."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchAxis:
    """A searched parameter as an axis.

    Attributes:
        labels: of a choice, in the study's order; empty for a range.
        low, high, log: of a range.
    """

    name: str
    labels: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False


def search_axes(spec: StudySpec) -> list[SearchAxis]:
    """One for each parameter that is searched, in the order of the study's space."""
    axes = []
    for name, domain in spec.space.items():
        match domain:
            case Choice(values=values) if len(values) > 1:
                axes.append(SearchAxis(name=name, labels=tuple(map(choice_label, values))))
            case Range(low=low, high=high, log=log) if low < high:
                axes.append(SearchAxis(name=name, low=low, high=high, log=log))
    return axes
