from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from search.analysis.importances import FEWEST, importances, importances_in_words, search_axes
from search.spec.domains import Choice
from search.spec.space import distributions
from search.store.views import StudyView
from tests.search.made_up_views import SEARCHED as SPEC
from tests.search.made_up_views import study_view, trial_view


def searched(trials: int) -> StudyView:
    """Trials whose loss depends only on the learning rate, by a factor of ten."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(trials):
        place = float(rng.uniform())
        params = {
            "learning_rate": 10 ** (-4 + 2 * place),
            "depth": int(rng.integers(2, 5)),
            "hidden": str(rng.choice(["64", "128", "120 84"])),
        }
        made.append(trial_view(number, [2.0, 0.2 + 1.8 * place], params=params))
    return dataclasses.replace(study_view(made), spec=SPEC)


def test_the_parameter_that_decides_is_found() -> None:
    found = importances(searched(30))
    assert found is not None
    assert next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.trials, found.epoch) == (30, 2)
    assert found.spread.keys() == found.shares.keys() == distributions(SPEC).keys()
    assert importances(searched(30)) == found  # the same each time
    # A parameter with one value is not searched: trials need not have it.
    view = searched(30)
    fixed = dataclasses.replace(SPEC, space={**SPEC.space, "optimizer": Choice(values=("adam",))})
    assert importances(dataclasses.replace(view, spec=fixed)) == found


def test_few_trials_give_a_hint_and_fewer_give_nothing() -> None:
    few, enough = importances(searched(FEWEST)), importances(searched(12))
    assert few is not None
    assert enough is not None
    assert "From the losses of 5 trials after epoch 2: " in importances_in_words(few)
    assert "little more than a hint" in importances_in_words(few)
    assert "hint" not in importances_in_words(enough)
    view = searched(FEWEST - 1)
    assert importances(view) is None
    # Trials trained with other values than the sampled ones do not count, either.
    params = {"learning_rate": 1e-3, "depth": 2, "hidden": "64"}
    baseline = trial_view(12, [0.5], is_baseline=True, params=params)
    odd = trial_view(13, [0.5], params={"depth": 2})
    more = dataclasses.replace(view, trials=(*view.trials, baseline, odd))
    assert importances(more) is None


def test_pruned_trials_count() -> None:
    """Most are pruned after one epoch; later losses of the others say nothing about a parameter."""
    view = searched(24)
    trials = list(view.trials)
    for number in set(range(24)) - {0, 6, 12, 18}:
        first = dataclasses.replace(trials[number].curve[1], epoch=1)
        trials[number] = dataclasses.replace(trials[number], state="pruned", curve=(first,))
    found = importances(dataclasses.replace(view, trials=tuple(trials)))
    assert found is not None
    assert (found.epoch, found.trials) == (1, 24)
    assert next(iter(found.shares)) == "learning_rate"


def test_if_few_continue_all_are_compared_at_the_partial_epoch() -> None:
    view = searched(24)
    trials = []
    for trial in view.trials:
        look = dataclasses.replace(trial.curve[1], epoch=0)
        curve = trial.curve if trial.number < 8 else ()
        trials.append(dataclasses.replace(trial, curve=curve, partial_epoch=look))
    diverged = dataclasses.replace(trials[-1].partial_epoch, value=math.nan)
    trials[-1] = dataclasses.replace(trials[-1], partial_epoch=diverged)
    found = importances(dataclasses.replace(view, trials=tuple(trials)))
    assert found is not None
    assert (found.epoch, found.trials) == (0, 24)
    assert next(iter(found.shares)) == "learning_rate"
    assert "From the losses of 24 trials after 0.33 epochs: " in importances_in_words(found)
    assert "what learns fast at first looks better" in importances_in_words(found)
    few = importances(dataclasses.replace(view, trials=tuple(trials[:11])))  # 8 of 11 continue
    assert few is not None
    assert (few.epoch, few.trials) == (2, 8)


def test_a_huge_loss_counts_as_guessing() -> None:
    view = searched(20)
    params = {"learning_rate": 1e-4, "depth": 2, "hidden": "64"}
    huge = trial_view(20, [1e30, math.nan], state="failed", params=params)
    found = importances(dataclasses.replace(view, trials=(*view.trials, huge)))
    assert found is not None
    assert found.trials == 21
    assert next(iter(found.shares)) == "learning_rate"


def test_axes_are_the_searched_parameters() -> None:
    one = dataclasses.replace(SPEC, space={**SPEC.space, "width": Choice(values=(8,))})
    assert list(search_axes(one)) == ["learning_rate", "depth", "hidden"]
