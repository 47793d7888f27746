from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search.analysis.comparison import against_base
from search.figures.figures_comparison import MOST_ARMS, arm_curves, effects

Make = Callable[..., Any]
ARMS = {"base": [0.5, 0.52, 0.48], "a": [0.4, 0.43, 0.41], "b": [0.55, 0.5, 0.6]}


def named(figure: Any, start: str) -> list[Any]:
    return [trace for trace in figure.data if (trace.name or "").startswith(start)]


def test_the_effect_of_each_arm_is_drawn_with_its_interval(make_comparison: Make) -> None:
    view = make_comparison(ARMS)
    figure = effects(view)
    (means,) = named(figure, "mean")
    found = against_base(view, "validation_loss")
    assert list(means.x) == pytest.approx([d.mean for d in found], abs=1e-4)
    half = [(d.high or 0) - (d.mean or 0) for d in found]
    assert list(means.error_x.array) == pytest.approx(half, abs=1e-3)
    (points,) = named(figure, "one seed")
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
    assert notes[1] == "diverged in every seed"
    assert notes[2] == "no seed with which both were trained to the end"
    assert figure.layout.xaxis.range[1] < 1
    assert len(named(figure, "mean")[0].x) == 2


def test_huge_intervals_do_not_squeeze_the_points(make_comparison: Make) -> None:
    figure = effects(make_comparison({"base": [0.5, 0.5], "a": [0.4, 0.5001]}))
    assert figure.layout.xaxis.range[1] == pytest.approx(1.1 * 2.5 * 0.1)


def test_without_pairs_the_figure_says_so(make_comparison: Make) -> None:
    figure = effects(make_comparison({"base": [], "a": []}, repeats=2))
    assert figure.layout.annotations[-1].text == "no arm can be compared with the base yet"
    figure = arm_curves(make_comparison({"base": [], "a": []}, repeats=2))
    assert figure.layout.annotations[-1].text == "no arm has been trained to its end yet"


def test_curves_are_means_of_seeds(make_comparison: Make) -> None:
    figure = arm_curves(make_comparison(ARMS))
    (training, validation) = named(figure, "a (3)")
    assert list(validation.x) == [1, 2, 3]
    middle = sum(ARMS["a"]) / 3
    expected = [middle + 0.4, middle + 0.1, middle]
    assert list(validation.y) == pytest.approx(expected, abs=1e-3)
    assert list(training.y) == pytest.approx([0.9 * y for y in expected], abs=1e-3)
    (best, *_) = named(figure, "best epoch")
    assert list(best.x) == [3, 3, 3]
    assert list(best.y) == pytest.approx(ARMS["base"])
    low = figure.layout.yaxis.range[0]
    assert 10**low < 0.9 * 0.4  # training losses are seen, too


def test_a_mean_ends_with_the_first_seed_that_stopped(make_comparison: Make) -> None:
    view = make_comparison({"base": [0.5, 0.52]})
    short, long = view.trials
    object.__setattr__(short, "curve", short.curve[:2])
    figure = arm_curves(view)
    means = named(figure, "base (2)")
    assert [list(trace.x) for trace in means] == [[1, 2], [1, 2]]
    assert len(long.curve) == 3


def test_only_so_many_arms_are_told_apart(make_comparison: Make) -> None:
    arms = {f"arm {i:02}": [0.5 + i / 100, 0.5 + i / 90] for i in range(20)}
    arms["arm 00"] = [0.9, 0.9]  # the base stays, though it is the worst
    figure = arm_curves(make_comparison(arms))
    shown = {trace.name for trace in figure.data if trace.name and trace.name.startswith("arm")}
    assert shown == {f"arm {i:02} (2)" for i in range(MOST_ARMS)}
    assert "8 arms not drawn" in figure.layout.title.subtitle.text


def test_names_are_escaped(make_comparison: Make) -> None:
    arms = {"<b>base</b>": [0.5, 0.6], "<a href=x>": [0.4, 0.5]}
    for figure in (arm_curves(make_comparison(arms)), effects(make_comparison(arms))):
        text = str(figure.to_dict())
        assert "<b>base" not in text
        assert "<a href" not in text
