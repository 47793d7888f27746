from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest

from search.figures.figures_curves import MOST_CURVES, TOP, learning_curves
from search.figures.style import COLOURS
from search.store.views import StudyView


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name.split(":")[0].split(" (")[0]: trace for trace in figure.data}


def test_each_complete_trial_has_its_curve_and_its_best_epoch(small_study: StudyView) -> None:
    found = traces(learning_curves(small_study))
    for trial in small_study.leaderboard:
        if not trial.is_baseline:
            assert found[f"#{trial.number}"].line.color in COLOURS
    assert found["#3"].x == (1, 2, 3)
    assert found["#3"].y == (0.6, 0.25, 0.28)
    assert found["#3"].name == "#3: 0.25"
    marks = set(zip(found["best epoch"].x, found["best epoch"].y, strict=True))
    assert marks == {(2, 0.25), (3, 0.3), (2, 0.44)}
    assert found["baseline"].line.dash == "dash"


def test_the_early_look_stands_inside_the_first_epoch(small_study: StudyView) -> None:
    pruned = traces(learning_curves(small_study))["pruned"]
    assert list(pruned.x) == [0.33, 1, 2, None, 0.33, None]
    assert list(pruned.y) == [1.5, 0.7, 0.6, None, 2.0, None]
    assert list(pruned.customdata) == [2, 2, 2, None, 8, None]


def test_losses_that_are_not_finite_are_left_out(small_study: StudyView) -> None:
    figure = learning_curves(small_study)
    assert "failed" not in traces(figure)  # its one trial has no finite loss
    json.loads(figure.to_json(), parse_constant=pytest.fail)


def test_the_loss_axis_ends_at_the_loss_of_guessing(
    make_view: Callable[..., StudyView], make_trial: Callable[..., Any]
) -> None:
    exploded = make_view([make_trial(0, [0.3]), make_trial(1, [1e9], state="pruned")])
    low, high = learning_curves(exploded).layout.yaxis.range
    assert 10**low < 0.3 < 10**high
    assert 10**high == pytest.approx(math.log(5) * 1.05)


def test_a_long_study_is_thinned_and_says_so(
    big_study: Callable[[int, int], StudyView],
) -> None:
    view = big_study(1000, 12)
    figure = learning_curves(view)
    pruned = traces(figure)["pruned"]
    assert pruned.name == f"pruned ({MOST_CURVES} of 750)"
    assert pruned.x.count(None) == MOST_CURVES
    assert sum(trace.name.startswith("#") for trace in figure.data) == TOP
    assert len(figure.to_json()) < 30_000


def test_an_empty_study_says_what_is_missing(make_view: Callable[..., StudyView]) -> None:
    figure = learning_curves(make_view())
    assert not figure.data
    assert figure.layout.annotations[0].text == "no epoch has ended yet"


def test_what_people_typed_is_escaped(
    make_view: Callable[..., StudyView], make_trial: Callable[..., Any]
) -> None:
    view = make_view([make_trial(0, [0.5])], data_title='<a href="x">click</a>\n&')
    subtitle = learning_curves(view).layout.title.subtitle.text
    assert subtitle.startswith('&lt;a href="x"&gt;click&lt;/a&gt;�&amp;, 50 000 training')
