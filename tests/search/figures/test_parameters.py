from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from search.figures.files import drawn
from search.figures.parameters import (
    FEWEST,
    MOST,
    comparable_trials,
    contour,
    importances_bars,
    search_axes,
    shares_of,
    slices,
)
from search.spec.domains import Choice, Range
from search.store.views import State, StudyView, TrialView
from tests.search.made_up_views import SEARCHED as SPEC
from tests.search.made_up_views import study_view, trial_view


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.figures.parameters.RESAMPLES", 2)


def view_of(trials: Sequence[TrialView]) -> StudyView:
    return replace(study_view(trials), spec=SPEC)


@pytest.fixture
def searched() -> StudyView:
    """Ten trials whose loss grows with their number and learning rate; two are pruned."""
    trials = []
    for n in range(10):
        params: dict[str, Any] = {"depth": 2 + n % 3, "hidden": ["64", "128"][n % 2]}
        params["learning_rate"] = 10 ** (-4 + 0.2 * n)
        state: State = "pruned" if n > 7 else "complete"
        trials.append(trial_view(n, [2.0, 0.2 + 0.1 * n], params=params, state=state))
    return view_of(trials)


def decided(trials: int) -> list[TrialView]:
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
    return made


def importances(view: StudyView) -> tuple[dict[str, float], str]:
    """The shares that the figure shows, and what it says about them."""
    figure = importances_bars(view)
    shares = {y: x for bars in figure.data for y, x in zip(bars.y, bars.x, strict=True)}
    return shares, f"{figure.layout.title.subtitle.text} {figure.layout.meta['caption']}"


def test_of_many_trials_some_of_the_whole_study_are_compared() -> None:
    made = decided(2 * MOST)
    _, compared = comparable_trials(view_of(made))
    assert len(compared) == MOST
    first, last = (made[at].params["learning_rate"] for at in (0, -1))
    assert [compared[at].params["learning_rate"] for at in (0, -1)] == [first, last]


def test_the_parameter_that_decides_is_found() -> None:
    view = view_of(decided(30))
    figure = importances_bars(view)
    (bars,) = figure.data
    shares = dict(zip(bars.y, bars.x, strict=True))
    assert next(iter(shares)) == "learning_rate"
    assert shares["learning_rate"] > 0.8
    exact = shares_of(comparable_trials(view)[1])
    assert 0.8 < sum(exact.values()) <= 1
    assert shares == pytest.approx(exact, abs=5e-4)  # rounded to three decimal places
    assert "fANOVA of 30 after epoch 2" in figure.layout.title.subtitle.text
    told = "From the losses of 30 trials after epoch 2: learning_rate explains "
    assert figure.layout.meta["caption"].startswith(told)
    assert shares.keys() == search_axes(SPEC).keys() == {"learning_rate", "depth", "hidden"}
    spread = dict(zip(bars.y, bars.error_x.array, strict=True))
    assert spread.keys() == shares.keys()
    assert all(0 <= deviation < 0.5 for deviation in spread.values())
    # A parameter with one value is not searched: trials need not have it.
    fixed = replace(SPEC, space={**SPEC.space, "optimizer": Choice(values=("adam",))})
    again = importances_bars(replace(view, spec=fixed))
    assert again.to_json() == figure.to_json()  # the same each time


def test_what_parameters_explain_only_together_is_credited_to_none() -> None:
    """The loss is low if both are low or both are high; by itself neither says anything."""
    trials = []
    for number in range(80):
        place, depth = (number // 2 % 10 + 0.5) / 10, 2 + number % 2 * 2
        loss = 0.2 if (place < 0.5) == (depth == 2) else 1.4
        params = {"learning_rate": 0.01 * place, "depth": depth, "hidden": "64"}
        trials.append(trial_view(number, [2.0, loss], params=params))
    shares, told = importances(view_of(trials))
    assert sum(shares.values()) < 0.5
    assert "What only several parameters together explain is in no bar." in told


def test_few_trials_give_a_hint_and_fewer_give_nothing() -> None:
    assert "little more than a hint" in importances(view_of(decided(FEWEST)))[1]
    assert "hint" not in importances(view_of(decided(12)))[1]
    few = decided(FEWEST - 1)
    # Trials trained with other values than the sampled ones do not count, either.
    params = {"learning_rate": 1e-3, "depth": 2, "hidden": "64"}
    baseline = trial_view(12, [0.5], is_baseline=True, params=params)
    odd = trial_view(13, [0.5], params={"depth": 2})
    for trials in ([], few, [*few, baseline, odd]):
        shares, told = importances(view_of(trials))
        assert not shares
        assert "Importances need 5 trials" in told


def test_pruned_trials_count() -> None:
    """Most are pruned after one epoch; later losses of the others say nothing about a parameter."""
    trials = decided(24)
    for number in set(range(24)) - {0, 6, 12, 18}:
        first = replace(trials[number].curve[1], epoch=1)
        trials[number] = replace(trials[number], state="pruned", curve=(first,))
    shares, told = importances(view_of(trials))
    assert "From the losses of 24 trials after epoch 1: " in told
    assert next(iter(shares)) == "learning_rate"


def test_if_few_continue_all_are_compared_at_the_partial_epoch() -> None:
    trials = []
    for trial in decided(24):
        look = replace(trial.curve[1], epoch=0)
        curve = trial.curve if trial.number < 8 else ()
        trials.append(replace(trial, curve=curve, partial_epoch=look))
    diverged = replace(trials[-1].reports[0], value=math.nan)
    trials[-1] = replace(trials[-1], partial_epoch=diverged)
    shares, told = importances(view_of(trials))
    assert next(iter(shares)) == "learning_rate"
    assert "From the losses of 24 trials after 0.33 epochs: " in told
    assert "what learns fast at first looks better" in told
    few = importances(view_of(trials[:11]))[1]  # 8 of 11 continue
    assert "From the losses of 8 trials after epoch 2: " in few


def test_a_huge_loss_counts_as_guessing() -> None:
    params = {"learning_rate": 1e-4, "depth": 2, "hidden": "64"}
    huge = trial_view(20, [1e30, math.nan], state="failed", params=params)
    shares, told = importances(view_of([*decided(20), huge]))
    assert "From the losses of 21 trials" in told
    assert next(iter(shares)) == "learning_rate"


def test_each_trial_is_drawn_at_its_parameter_values(searched: StudyView) -> None:
    baseline = trial_view(10, [0.7], is_baseline=True, params={"depth": 3})
    figure = slices(replace(searched, trials=(*searched.trials, baseline)))
    complete, pruned = figure.data[:2]
    assert (complete.name, pruned.name) == ("complete (8)", "pruned (2)")
    assert pruned.marker.symbol != complete.marker.symbol
    assert complete.x == pytest.approx([10 ** (-4 + 0.2 * n) for n in range(8)], rel=1e-3)
    assert complete.y == pytest.approx([0.2 + 0.1 * n for n in range(8)])
    assert [axis.type for axis in (figure.layout.xaxis, figure.layout.xaxis2)] == ["log", None]
    assert figure.layout.xaxis3.ticktext == ("64", "128", "120 84")
    (chosen,) = (one for one in figure.data if (one.name, one.xaxis) == ("complete (8)", "x3"))
    assert [round(x) for x in chosen.x] == [n % 2 for n in range(8)]
    stars = [trace for trace in figure.data if trace.marker.symbol == "star"]
    assert [(trace.x, trace.y, trace.xaxis) for trace in stars] == [((3,), (0.7,), "x2")]
    # A choice is shown whole, a parameter that no trial has not at all.
    assert figure.layout.xaxis3.range == (-0.5, 2.5)
    shallow = slices(replace(searched, trials=(baseline,)))
    assert [axis.title.text for axis in shallow.select_xaxes()] == ["depth"]


def test_choices_that_do_not_fit_side_by_side_are_written_downwards(searched: StudyView) -> None:
    values = "flip-crop", "flip-rotate-crop", "rotate-jitter-erase", "zoom-translate-flip"
    space = {**SPEC.space, "augmentation": Choice(values=values)}
    params = [{**it.params, "augmentation": values[it.number % 4]} for it in searched.trials]
    trials = [replace(it, params=one) for it, one in zip(searched.trials, params, strict=True)]
    view = replace(searched, spec=replace(SPEC, space=space), trials=tuple(trials))
    angles = {axis.title.text: axis.tickangle for axis in slices(view).select_xaxes()}
    assert angles == {"depth": None, "learning rate": None, "hidden": None, "augmentation": 90}


@pytest.mark.parametrize("high", [4e-3, 8e-3, 2e-2, 1e-1])
def test_a_logarithmic_axis_has_numbers(searched: StudyView, high: float) -> None:
    """Plotly puts its labels at powers of ten if its `dtick` is 1."""
    low, names = 2e-3, ("learning_rate", "depth")
    space = {**SPEC.space, "learning_rate": Range(low=low, high=high, log=True)}
    trials = []
    for trial, place in zip(searched.trials, np.linspace(0, 1, 10), strict=True):
        params = {"learning_rate": low * (high / low) ** place, "depth": trial.params["depth"]}
        trials.append(replace(trial, params=params))
    view = replace(searched, spec=replace(SPEC, space={name: space[name] for name in names}))
    figure = slices(replace(view, trials=tuple(trials)))
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.dtick == (1 if high >= 10 * low else None)
    axes = drawn(figure).axes[0]
    left, right = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if left <= tick <= right]


def test_two_parameters_together(searched: StudyView) -> None:
    surface, points, *_ = contour(searched).data
    assert (surface.type, len(points.x)) == ("contour", 10)
    assert {value for row in surface.z for value in row if value} >= {0.2, 1.1}
    empty = contour(view_of([]))
    assert not empty.data
    assert empty.layout.title.subtitle.text is None  # not "0 trials after 0.33 epochs"
    assert "Importances need 5 trials" in empty.layout.meta["caption"]


def test_a_parameter_with_a_single_value_so_far_is_in_no_contour(searched: StudyView) -> None:
    trials = [
        replace(one, params={**one.params, "depth": 3, "hidden": "64"}) for one in searched.trials
    ]
    figure = contour(view_of(trials))
    assert not figure.data
    assert "10 trials after epoch 2" in figure.layout.title.subtitle.text
    assert "also needs two parameters that do" in figure.layout.meta["caption"]
