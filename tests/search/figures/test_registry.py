"""Every figure of the registry, for any study: described, drawn, small, strict JSON, a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest

from search.figures import FIGURES, Figure, by_file_name, dashboard_figures, draw_all
from search.figures.files import rendered
from search.figures.style import COLOURS, GREY
from search.spec.domains import Choice, Range
from search.store.views import StudyView
from tests.search.made_up_views import big_study, comparison_view, study_view, trial_view

ARMS = {"<b>base</b>": [0.5, 0.52, 0.48], "<a href=x>": [0.4, None, 0.41], "c": [None] * 3}
MOST = 60_000  # characters of a figure


@pytest.fixture(scope="module")
def views(small_study: StudyView) -> list[StudyView]:
    failed = [trial_view(0, state="failed"), trial_view(1, state="waiting")]
    many = {f"{'arm ' * 40}{i}": [0.1 + i / 300] * 4 for i in range(200)}
    empty = comparison_view({"base": [], "a": []}, repeats=2)
    searches = [study_view(), study_view(failed), small_study, big_study(400, 12)]
    return [*searches, comparison_view(ARMS), comparison_view(many), empty]


@pytest.mark.parametrize("name", FIGURES)
def test_any_study_gives_strict_json_of_bounded_size(name: str, views: list[StudyView]) -> None:
    figure, applied = FIGURES[name], 0
    assert figure.title
    assert len(figure.description.splitlines()) == 1
    for view in filter(figure.applies, views):
        made, applied = figure.draw(view), applied + 1
        text = made.to_json()
        json.loads(text, parse_constant=pytest.fail)
        assert "cannot be drawn" not in text
        assert "Fashion-MNIST, 50 000 training and 10 000 validation images" in text
        assert made.layout.title.text
        assert made.data or made.layout.annotations  # or it says what is missing
        assert "yet" not in str(made.layout.annotations)  # the study may have ended
        axes = [*made.select_xaxes(), *made.select_yaxes()]
        # Plotly would write 2 for 0.2, and for 2 on the same axis.
        assert not made.data or {axis.minorloglabels for axis in axes} == {"complete"}
        assert len(text) < MOST or not figure.in_dashboard
        assert not re.search("<b>base|<a href", str(made.to_dict()))
        file = rendered(made, "svg")
        assert file.startswith(b"<?xml")
        assert b"cannot be drawn" not in file
    assert applied


def test_figures_whose_names_differ_in_signs_alone_have_different_files() -> None:
    a, b, c = (Figure(name, "", lambda _: go.Figure()) for name in "abc")
    assert by_file_name({"a b": a, "a-b": b, "c": c}) == {"a-b": a, "a-b-": b, "c": c}


def test_which_figures_apply(small_study: StudyView) -> None:
    of_all = ["history", "curves", "parameters"]
    of_parameters = ["importances", "slices", "contour"]
    assert list(draw_all(FIGURES, small_study)) == [*of_all, *of_parameters]
    for space, of_space in (
        ({"depth": Range(low=2, high=4), "hidden": Choice(values=((64,), (128,)))}, of_parameters),
        ({"depth": Range(low=2, high=4), "optimizer": Choice(values=("adam",))}, ["slices"]),
        ({"depth": Range(low=3, high=3)}, []),
    ):
        view = replace(small_study, spec=replace(small_study.spec, space=space))
        assert list(draw_all(FIGURES, view)) == [*of_all, *of_space]
    assert list(draw_all(FIGURES, comparison_view(ARMS))) == ["arms", "curves"]
    assert list(dashboard_figures(small_study)) == [
        *("best-so-far", "learning-curves", "loss-against-parameters", "slices")
    ]


def test_a_custom_figure_gets_title_style_and_data(
    monkeypatch: pytest.MonkeyPatch, small_study: StudyView
) -> None:
    def make(view: StudyView) -> go.Figure:
        return go.Figure(go.Scatter(x=[1, 2], y=[view.finished, 0]))

    monkeypatch.setitem(FIGURES, "mine", Figure("Mine", "Something of mine", make))
    figure = dashboard_figures(small_study)["mine"]
    assert figure.layout.title.text == "Mine"
    assert figure.layout.title.subtitle.text.startswith("Fashion-MNIST, 50 000 training")
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"


def fail(_: StudyView) -> go.Figure:
    raise ValueError("<b>no</b> trial")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (fail, "ValueError: &lt;b&gt;no&lt;/b&gt; trial"),
        (lambda _: None, "TypeError: expected a plotly figure, but got NoneType"),
        (lambda _: go.Figure(go.Scatter(customdata=[object()])), "not JSON serializable"),
    ],
)
def test_an_error_affects_no_other_figure(
    make: Callable[[StudyView], Any], why: str, small_study: StudyView
) -> None:
    for one in (Figure("Mine", "It", make), Figure("Mine", "It", make, applies=fail)):
        figure = draw_all({"mine": one}, small_study)["mine"]
        assert why in figure.layout.annotations[0].text
        assert figure.to_json()


def luminance(colour: str) -> float:
    """As defined by WCAG 2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("ground", ["#FFFFFF", "#14171C"])  # --ground of pages/templates/style.css
@pytest.mark.parametrize("colour", [*COLOURS, GREY])
def test_colours_stand_out_on_both_grounds(colour: str, ground: str) -> None:
    low, high = sorted(map(luminance, (colour, ground)))
    assert (high + 0.05) / (low + 0.05) >= 3
