from __future__ import annotations

import json
from collections.abc import Callable
from statistics import stdev
from typing import Any

import pytest

from search.figures.figures_arms import MOST_POINTS, loss_by_arm
from search.store.views import StudyView

Make = Callable[..., StudyView]


def test_each_seed_stands_in_its_arms_row(make_comparison: Make) -> None:
    arms = {"base": [0.5, 0.4, 0.6], "<b>b</b>": [0.3, None, 0.5], "lost": [None, None, None]}
    figure = loss_by_arm(make_comparison(arms))
    points, base, other = figure.data
    found: dict[int, list[float]] = {}
    for row, loss in zip(points.y, points.x, strict=True):
        found.setdefault(row, []).append(loss)
    assert found == {0: [0.5, 0.4, 0.6], 1: [0.3, 0.5]}
    assert (base.y, base.x) == ((0,), (0.5,))
    assert (other.y, other.x) == ((1,), (0.4,))
    assert base.error_x.array == (pytest.approx(0.1),)
    assert other.error_x.array == (pytest.approx(stdev([0.3, 0.5]), rel=1e-3),)
    assert base.marker.color != other.marker.color
    assert figure.layout.yaxis.ticktext == (
        "base (3)",
        "&lt;b&gt;b&lt;/b&gt; (2 + 1 failed)",
        "lost (0 + 3 failed)",
    )


def test_nothing_trained_is_said(make_comparison: Make) -> None:
    figure = loss_by_arm(make_comparison({"base": [], "a": []}, repeats=2))
    assert "no arm has been trained" in figure.layout.annotations[-1].text


def test_the_largest_comparisons_are_drawn_in_few_bytes(make_comparison: Make) -> None:
    many: dict[str, Any] = {f"{'arm ' * 40}{i}": [0.1 + i / 300] * 4 for i in range(200)}
    long: dict[str, Any] = {"base": [0.5] * 1000, "other": [0.4] * 1000}
    for arms in (many, long):
        figure = loss_by_arm(make_comparison(arms))
        assert len(figure.data[0].x) <= MOST_POINTS
        text = figure.to_json()
        json.loads(text, parse_constant=pytest.fail)
        assert len(text) < 60_000
