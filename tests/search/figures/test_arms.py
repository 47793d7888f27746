from __future__ import annotations

from collections.abc import Callable
from statistics import stdev
from typing import Any

import pytest

from search.figures.arms import MOST_POINTS, loss_by_arm
from search.store.views import StudyView

Make = Callable[..., StudyView]


def test_each_seed_stands_in_its_arms_row(make_comparison: Make) -> None:
    arms = {"base": [0.5, 0.4, 0.6], "<b>b</b>": [0.3, None, 0.5], "lost": [None, None, None]}
    figure = loss_by_arm(make_comparison(arms))
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
    assert len(loss_by_arm(make_comparison(long)).data[0].x) <= MOST_POINTS
