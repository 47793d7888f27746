from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest

from search.figures.curves import MOST_ARMS, MOST_CURVES, TOP, learning_curves
from search.figures.style import COLOURS
from search.store.views import StudyView

Make = Callable[..., Any]
ARMS = {"base": [0.5, 0.52, 0.48], "a": [0.4, 0.43, 0.41], "b": [0.55, 0.5, 0.6]}


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name.split(":")[0].split(" (")[0]: trace for trace in figure.data}


def named(figure: Any, start: str) -> list[Any]:
    return [trace for trace in figure.data if (trace.name or "").startswith(start)]


def test_each_complete_trial_has_its_curve_and_its_best_epoch(small_study: StudyView) -> None:
    found = traces(learning_curves(small_study))
    for trial in small_study.leaderboard:
        if not trial.is_baseline:
            assert found[f"#{trial.number}"].line.color in COLOURS
    assert (found["#3"].x, found["#3"].y) == ((1, 2, 3), (0.6, 0.25, 0.28))
    assert found["#3"].name == "#3: 0.25"
    marks = set(zip(found["best epoch"].x, found["best epoch"].y, strict=True))
    assert marks == {(2, 0.25), (3, 0.3), (2, 0.44)}
    assert found["baseline"].line.dash == "dash"
    assert "failed" not in found  # its one trial has no finite loss
    # Rung 0 stands inside the first epoch.
    assert list(found["pruned"].x) == [0.33, 1, 2, None, 0.33, None]
    assert list(found["pruned"].y) == [1.5, 0.7, 0.6, None, 2.0, None]
    assert list(found["pruned"].customdata) == [2, 2, 2, None, 8, None]


def test_a_long_study_is_thinned_and_the_axis_ends_at_the_loss_of_guessing(
    big_study: Make, make_view: Make, make_trial: Make
) -> None:
    figure = learning_curves(big_study(1000, 12))
    pruned = traces(figure)["pruned"]
    assert pruned.name == f"pruned ({MOST_CURVES} of 750)"
    assert pruned.x.count(None) == MOST_CURVES
    assert sum(trace.name.startswith("#") for trace in figure.data) == TOP
    exploded = make_view([make_trial(0, [0.3]), make_trial(1, [1e9], state="pruned")])
    low, high = learning_curves(exploded).layout.yaxis.range
    assert 10**low < 0.3 < 10**high
    assert 10**high == pytest.approx(math.log(5) * 1.05)  # the loss of guessing


def test_curves_of_arms_are_means_of_seeds(make_comparison: Make) -> None:
    figure = learning_curves(make_comparison(ARMS))
    training, validation = named(figure, "a (3)")
    assert list(validation.x) == [1, 2, 3]
    middle = sum(ARMS["a"]) / 3
    expected = [middle + 0.4, middle + 0.1, middle]
    assert list(validation.y) == pytest.approx(expected, abs=1e-3)
    assert list(training.y) == pytest.approx([0.9 * y for y in expected], abs=1e-3)
    assert 10 ** figure.layout.yaxis.range[0] < 0.9 * 0.4  # training losses are seen, too


def test_only_so_many_arms_are_told_apart(make_comparison: Make) -> None:
    arms = {f"arm {i:02}": [0.5 + i / 100, 0.5 + i / 90] for i in range(20)}
    arms["arm 00"] = [0.9, 0.9]  # the base stays, though it is the worst
    figure = learning_curves(make_comparison(arms))
    assert {trace.name for trace in named(figure, "arm")} == {
        f"arm {i:02} (2)" for i in range(MOST_ARMS)
    }
    assert "8 arms not drawn" in figure.layout.title.subtitle.text
    view = make_comparison({"base": [0.5, 0.52]})
    short, long = view.trials
    object.__setattr__(short, "curve", short.curve[:2])  # a mean ends with the first that stopped
    assert [list(trace.x) for trace in named(learning_curves(view), "base (2)")] == [[1, 2]] * 2
    assert len(long.curve) == 3
