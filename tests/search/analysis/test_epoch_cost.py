"""What an epoch costs."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from models import ConvNetConfig
from models.anatomy import anatomy
from search.analysis.epoch_cost import (
    DRAWS,
    draw,
    epoch_seconds,
    fit_cost,
    multiply_adds,
    typical_seconds,
)
from search.spec.config import TrialConfig
from search.spec.domains import Choice, Fixed, Range
from search.store.view import StudyView, TrialView

MakeTrial = Callable[..., TrialView]
MakeView = Callable[..., StudyView]
IMAGES, CLASSES = (1, 28, 28), 5


@pytest.fixture
def sized(make_trial: MakeTrial) -> Callable[..., TrialView]:
    """A trial of a network of some width, whose two epochs took `seconds` each."""

    def make(number: int, width: int, seconds: float) -> TrialView:
        trial = make_trial(number, [0.5, 0.4])
        assert trial.config is not None
        config = TrialConfig(
            architecture=ConvNetConfig(channels=(width, width)), recipe=trial.config.recipe
        )
        curve = tuple(replace(row, seconds=seconds) for row in trial.curve)
        return replace(trial, config=config, curve=curve)

    return make


def work(width: int) -> float:
    found = multiply_adds(ConvNetConfig(channels=(width, width)), IMAGES, CLASSES)
    assert found is not None
    return found


def test_work_is_that_of_the_layer_table() -> None:
    net = ConvNetConfig(channels=(8, 8))
    assert multiply_adds(net, IMAGES, CLASSES) == sum(
        row.multiply_adds for row in anatomy(net, IMAGES, CLASSES)
    )
    assert multiply_adds(ConvNetConfig(channels=(8,) * 20, padding=0), IMAGES, CLASSES) is None


@pytest.mark.parametrize("slope", [0.1, 0.7, 1.0])
def test_many_trials_show_how_cost_grows(
    sized: Callable[..., TrialView], make_view: MakeView, slope: float
) -> None:
    widths = [8, 12, 16, 24, 32, 48, 64, 96] * 5
    trials = [sized(n, width, 1e-4 * work(width) ** slope) for n, width in enumerate(widths)]
    cost = fit_cost(make_view(trials))
    assert cost(work(20)) == pytest.approx(1e-4 * work(20) ** slope, rel=0.1)
    assert cost(work(96)) / cost(work(8)) == pytest.approx((work(96) / work(8)) ** slope, rel=0.2)


def test_one_trial_says_something_of_all_others(
    sized: Callable[..., TrialView], make_view: MakeView
) -> None:
    cost = fit_cost(make_view([sized(0, 16, 10.0)]))
    assert cost(work(16)) == pytest.approx(10.0)
    assert cost(work(8)) < 10.0 < cost(work(32)) < 10.0 * work(32) / work(16)


def test_an_early_look_is_a_third_of_an_epoch(make_trial: MakeTrial, make_view: MakeView) -> None:
    looked = make_trial(0, early=1.0, state="pruned")  # which took 10 s
    view = make_view([looked])
    assert epoch_seconds(looked, view, fit_cost(view), typical=99.0) == pytest.approx(30)


def test_trials_that_are_not_measured_cost_by_size_or_as_is_typical(
    sized: Callable[..., TrialView], make_view: MakeView
) -> None:
    measured = sized(0, 16, 10.0)
    view = make_view([measured])
    cost = fit_cost(view)
    new = replace(sized(1, 32, 1.0), curve=(), state="running")
    assert epoch_seconds(measured, view, cost, typical=99.0) == 10.0
    assert epoch_seconds(new, view, cost, typical=99.0) == cost(work(32))
    assert epoch_seconds(replace(new, config=None), view, cost, typical=99.0) == 99.0


def test_what_is_typical_starts_from_the_space_and_follows_the_trials(
    sized: Callable[..., TrialView], make_view: MakeView
) -> None:
    view = make_view([sized(0, 16, 10.0)])
    wide, narrow = (
        replace(view, spec=replace(view.spec, space={"width": Fixed(value=width)}))
        for width in (64, 8)
    )
    cost = fit_cost(view)
    assert typical_seconds(narrow, cost, []) < typical_seconds(wide, cost, [])
    dear = [sized(number, 16, 1000.0) for number in range(1, 500)]
    assert typical_seconds(narrow, cost, dear) == pytest.approx(1000.0, rel=0.1)


def test_a_space_in_which_nothing_fits_still_has_a_cost(
    sized: Callable[..., TrialView], make_view: MakeView
) -> None:
    view = make_view([sized(0, 16, 10.0)])
    space = {"padding": Fixed(value=0), "depth": Fixed(value=20)}
    hopeless = replace(view, spec=replace(view.spec, space=space))
    assert typical_seconds(hopeless, fit_cost(view), []) > 0


def test_draws_are_even_and_within_their_domain() -> None:
    draws = random.Random(0)
    assert draw(Fixed(value="relu"), draws) == "relu"
    assert {draw(Choice(values=(1, "a", (2, 3))), draws) for _ in range(DRAWS)} == {1, "a", (2, 3)}
    whole = [draw(Range(low=2, high=4), draws) for _ in range(600)]
    assert all(150 < whole.count(number) < 250 for number in (2, 3, 4))
    assert set(whole) == {2, 3, 4}
    logs = [draw(Range(low=1e-4, high=1.0, log=True), draws) for _ in range(400)]
    assert all(isinstance(number, float) and 1e-4 <= number <= 1 for number in logs)
    assert 150 < sum(isinstance(number, float) and number < 1e-2 for number in logs) < 250
