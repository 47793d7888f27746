from __future__ import annotations

from collections.abc import Callable
from statistics import stdev
from typing import Any

import pytest

from search.analysis.comparison import against_base
from search.figures.arms import MOST_POINTS, effects, loss_by_arm
from search.store.views import StudyView

Make = Callable[..., StudyView]
ARMS = {"base": [0.5, 0.52, 0.48], "a": [0.4, 0.43, 0.41], "b": [0.55, 0.5, 0.6]}


def named(figure: Any, start: str) -> Any:
    (found,) = (trace for trace in figure.data if (trace.name or "").startswith(start))
    return found


def test_each_seed_stands_in_its_arms_row(make_comparison: Make) -> None:
    arms = {"base": [0.5, 0.4, 0.6], "<b>b</b>": [0.3, None, 0.5], "lost": [None, None, None]}
    figure = loss_by_arm(make_comparison(arms))
    points, base, other = figure.data
    assert list(zip(points.y, points.x, strict=True)) == [
        *((0, 0.5), (0, 0.4), (0, 0.6), (1, 0.3), (1, 0.5))
    ]
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
    long: dict[str, Any] = {"base": [0.5] * 1000, "other": [0.4] * 1000}
    assert len(loss_by_arm(make_comparison(long)).data[0].x) <= MOST_POINTS


def test_the_effect_of_each_arm_is_drawn_with_its_interval(make_comparison: Make) -> None:
    view = make_comparison(ARMS)
    figure = effects(view)
    means, points = named(figure, "mean"), named(figure, "one seed")
    found = against_base(view, "validation_loss")
    assert list(means.x) == pytest.approx([d.mean for d in found], abs=1e-4)
    half = [(d.high or 0) - (d.mean or 0) for d in found]
    assert list(means.error_x.array) == pytest.approx(half, abs=1e-3)
    seeds = [value for d in found for value in d.by_repeat.values()]
    assert list(points.x) == pytest.approx(seeds, abs=1e-4)
    assert list(points.y) == [0, 0, 0, 1, 1, 1]
    low, high = figure.layout.xaxis.range
    assert low == -high
    assert high > max(map(abs, seeds))
    assert list(figure.layout.yaxis.ticktext) == ["a (3)", "b (3)"]


def test_what_would_squeeze_the_others_is_named_at_the_edge(make_comparison: Make) -> None:
    arms = {**ARMS, "wild": [9e5, 8e5, 9e5], "lost": [None] * 3, "crashed": [None, None]}
    figure = effects(make_comparison(arms))
    notes = [note.text for note in figure.layout.annotations]
    assert notes[0].startswith("beyond this axis: +8.67e+05")
    assert notes[1] == "worse: it diverged in every seed"
    assert notes[2].endswith("no seed with which both were trained to the end")
    assert figure.layout.xaxis.range[1] < 1
    assert len(named(figure, "mean").x) == 2
