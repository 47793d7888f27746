from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from search.figures.parameters import contour, importances_bars, slices
from search.store.views import State, StudyView
from tests.search.made_up_views import SEARCHED as SPEC
from tests.search.made_up_views import study_view, trial_view


@pytest.fixture
def searched() -> StudyView:
    """Ten trials whose loss grows with their number and learning rate; two are pruned."""
    trials = []
    for n in range(10):
        params: dict[str, Any] = {"depth": 2 + n % 3, "hidden": ["64", "128"][n % 2]}
        params["learning_rate"] = 10 ** (-4 + 0.2 * n)
        state: State = "pruned" if n > 7 else "complete"
        trials.append(trial_view(n, [2.0, 0.2 + 0.1 * n], params=params, state=state))
    return dataclasses.replace(study_view(trials), spec=SPEC)


def test_importances_say_what_they_are_based_on(searched: StudyView) -> None:
    figure = importances_bars(searched)
    assert set(figure.data[0].y) == {"learning_rate", "depth", "hidden"}
    assert sum(figure.data[0].x) == pytest.approx(1, abs=0.01)
    assert "fANOVA of 10 after epoch 2" in figure.layout.title.subtitle.text
    assert "losses of 10 trials" in figure.layout.meta["caption"]
    caption = importances_bars(dataclasses.replace(study_view(), spec=SPEC)).layout.meta["caption"]
    assert "Importances need 5 trials" in caption


def test_each_trial_is_drawn_at_its_parameter_values(searched: StudyView) -> None:
    baseline = trial_view(10, [0.7], is_baseline=True, params={"depth": 3})
    figure = slices(dataclasses.replace(searched, trials=(*searched.trials, baseline)))
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


def test_two_parameters_together(searched: StudyView) -> None:
    surface, points, *_ = contour(searched).data
    assert (surface.type, len(points.x)) == ("contour", 10)
    assert {value for row in surface.z for value in row if value} >= {0.2, 1.1}
    assert not contour(dataclasses.replace(study_view(), spec=SPEC)).data


def test_a_parameter_with_a_single_value_so_far_is_in_no_contour(searched: StudyView) -> None:
    trials = tuple(
        dataclasses.replace(one, params={**one.params, "depth": 3, "hidden": "64"})
        for one in searched.trials
    )
    figure = contour(dataclasses.replace(searched, trials=trials))
    assert not figure.data
    assert "10 trials after epoch 2" in figure.layout.title.subtitle.text
