from __future__ import annotations

from statistics import stdev
from typing import Any

import pytest

from search.figures.arms import MOST_ARMS, MOST_POINTS, loss_by_arm
from search.figures.study import learning_curves
from tests.search.made_up_views import comparison_view

ARMS = {"base": [0.5, 0.52, 0.48], "a": [0.4, 0.43, 0.41], "b": [0.55, 0.5, 0.6]}


def named(figure: Any, start: str) -> list[Any]:
    return [trace for trace in figure.data if (trace.name or "").startswith(start)]


def test_each_seed_stands_in_its_arms_row() -> None:
    arms = {"base": [0.5, 0.4, 0.6], "<b>b</b>": [0.3, None, 0.5], "lost": [None, None, None]}
    figure = loss_by_arm(comparison_view(arms))
    points, means = figure.data
    assert list(zip(points.y, points.x, strict=True)) == [
        *((0, 0.5), (0, 0.4), (0, 0.6), (1, 0.3), (1, 0.5))
    ]
    assert (means.y, means.x) == ((0, 1), (0.5, 0.4))
    assert means.error_x.array == pytest.approx((0.1, stdev([0.3, 0.5])), rel=1e-3)
    assert figure.layout.yaxis.ticktext == (
        "base (3)",
        "&lt;b&gt;b&lt;/b&gt; (2 + 1 failed)",
        "lost (0 + 3 failed)",
    )
    long: dict[str, Any] = {"base": [0.5] * 1000, "other": [0.4] * 1000}
    assert len(loss_by_arm(comparison_view(long)).data[0].x) <= MOST_POINTS


def test_curves_of_arms_are_means_of_seeds() -> None:
    training, validation = named(learning_curves(comparison_view(ARMS)), "a (3)")
    assert list(validation.x) == [1, 2, 3]
    middle = sum(ARMS["a"]) / 3
    expected = [middle + 0.4, middle + 0.1, middle]
    assert list(validation.y) == pytest.approx(expected, abs=1e-3)
    assert list(training.y) == pytest.approx([0.9 * y for y in expected], abs=1e-3)


def test_only_so_many_arms_are_told_apart() -> None:
    arms = {f"arm {i:02}": [0.5 + i / 100, 0.5 + i / 90] for i in range(20)}
    arms["arm 00"] = [0.9, 0.9]  # the base stays, though it is the worst
    figure = learning_curves(comparison_view(arms))
    assert {trace.name for trace in named(figure, "arm")} == {
        f"arm {i:02} (2)" for i in range(MOST_ARMS)
    }
    assert "8 arms not drawn" in figure.layout.title.subtitle.text
    view = comparison_view({"base": [0.5, 0.52]})
    short, long = view.trials
    object.__setattr__(short, "curve", short.curve[:2])  # a mean ends with the first that stopped
    assert [list(trace.x) for trace in named(learning_curves(view), "base (2)")] == [[1, 2]] * 2
    assert len(long.curve) == 3
