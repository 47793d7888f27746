from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.font_manager import get_font_names
from plotly.subplots import make_subplots

from search.figures import FIGURES
from search.figures.files import drawn, fonts, plain, rendered
from search.figures.style import STATES, apply_style, in_figure
from search.store.views import StudyView
from tests.search.made_up_views import comparison_view, study_view, trial_view

ARMS = {"base": [0.5, 0.52, 0.48], "_a": [0.4, 0.43, 0.41]}


def test_lines_hold_the_same_data(small_study: StudyView) -> None:
    figure = FIGURES["curves"].draw(small_study)
    (axes,) = drawn(figure).axes
    lines = [trace for trace in figure.data if "lines" in trace.mode]
    for trace, line in zip(lines, axes.lines, strict=False):
        expected = [math.nan if value is None else value for value in trace.y]
        np.testing.assert_array_equal(np.asarray(line.get_ydata(), dtype=float), expected)
    low, high = figure.layout.yaxis.range
    assert axes.get_ylim() == pytest.approx((10**low, 10**high))
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "epoch"


def test_error_bars() -> None:
    figure = FIGURES["arms"].draw(comparison_view(ARMS))
    (axes,) = drawn(figure).axes
    (bars,) = [c for c in axes.containers if isinstance(c, ErrorbarContainer) and c.has_xerr]
    (segments,) = (lines.get_segments()[0] for lines in bars[2])
    mean, half = figure.data[1].x[0], figure.data[1].error_x.array[0]
    assert segments[:, 0] == pytest.approx([mean - half, mean + half])
    assert axes.get_yticklabels()[1].get_text() == "_a (3)"


def test_each_state_of_a_trial_has_its_own_marker() -> None:
    trials = [trial_view(number, [0.5], state=state) for number, state in enumerate(STATES)]
    (axes,) = drawn(FIGURES["parameters"].draw(study_view(trials))).axes
    looks = {
        (one.get_label(), tuple(one.get_paths()[0].vertices.ravel()), len(one.get_facecolor()))
        for one in axes.collections
    }
    assert len(looks) == len({look[1:] for look in looks}) == len(STATES)
    assert all(len(one.get_edgecolor()) for one in axes.collections)


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (2, 2)])
def test_each_panel_has_its_own_title(rows: int, columns: int) -> None:
    titles = [f"panel {number}" for number in range(rows * columns)]
    figure = make_subplots(rows, columns, subplot_titles=titles)
    for place in range(len(titles)):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        figure.add_scatter(x=[1, 2], y=[2, 1], line={"dash": "longdash"}, **where)
    panels = drawn(figure).axes
    assert [[it.get_text() for it in axes.texts] for axes in panels] == [[it] for it in titles]
    assert all(axes.texts[0].get_position() == pytest.approx((0.5, 1)) for axes in panels)


def test_texts_stay_as_typed() -> None:
    typed = "a <b>x</b> & &lt; $y^2$ \\frac"
    assert plain(in_figure(typed)) == typed
    assert plain("one<br>two") == "one\ntwo"
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2], name=in_figure(typed), mode="lines"))
    figure.add_scatter(x=[1, 2], y=[2, 1], name="other", mode="lines")
    figure.update_xaxes(title_text="x")
    apply_style(figure, in_figure(typed), "Title")
    svg = rendered(figure, "svg").decode()
    assert "$y^2$ \\frac" in svg  # not rendered as a formula
    assert "&lt;b&gt;x&lt;/b&gt;" in svg


def test_installed_fonts_show_what_the_bundled_one_lacks() -> None:
    assert fonts(["Comic", "Malgun Gothic", "Noto Sans CJK SC"]) == [
        *("DejaVu Sans", "Noto Sans CJK SC", "Malgun Gothic", "sans-serif")
    ]
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2]))
    apply_style(figure, "狗", "Title")
    title, *_ = drawn(figure).texts
    assert title.get_fontfamily() == fonts(get_font_names())


HEIGHTS = [0.3, 0.2]
DAYS = [date(2026, 3, 1), date(2026, 3, 2)]


@pytest.mark.parametrize(
    "trace",
    [
        go.Scatter(x=["8 16", "a &lt; b"], y=HEIGHTS),
        go.Scatter(x=np.array([8, 16]), y=np.array(HEIGHTS), mode="markers"),
        go.Scatter(x=DAYS, y=pd.Series(HEIGHTS)),
        go.Scatter(x=pd.Series(pd.to_datetime(DAYS)), y=HEIGHTS, error_y={"array": HEIGHTS}),
        go.Scattergl(y=HEIGHTS),
        go.Bar(x=["a &lt; b", "c"], y=HEIGHTS, error_y={"array": np.array(HEIGHTS)}),
        go.Bar(x=[8, 16], y=HEIGHTS),
    ],
)
def test_a_users_values_can_be_text_arrays_and_dates(trace: go.Scatter) -> None:
    figure = go.Figure(trace)
    apply_style(figure, "below", "Mine")
    (axes,) = drawn(figure).axes
    patches: Any = axes.patches
    bars = [patch.get_height() for patch in patches]
    assert (bars or np.asarray(axes.lines[0].get_ydata()).tolist()) == HEIGHTS
    svg = rendered(figure, "svg").decode()
    assert "cannot be drawn" not in svg
    assert ("a &lt; b" in svg) == ("a &lt; b" in str(trace.x))


@pytest.mark.parametrize(
    ("traces", "why"),
    [
        ([go.Histogram(x=[1, 2, 2])], "but not histogram"),
        ([go.Pie(values=[1, 2])], "but not pie"),
        ([go.Bar(x=["a"], y=[1]), go.Bar(x=["a"], y=[2])], "not several"),
        ([go.Scatter(x=[1], y=[1], marker={"symbol": ["x"]}, mode="markers")], "AttributeError"),
        ([go.Scatter(x=["a", None], y=[1, 2])], "Error: "),
    ],
)
def test_a_file_says_why_a_figure_cannot_be_drawn(traces: list[go.Scatter], why: str) -> None:
    figure = go.Figure(traces)
    apply_style(figure, in_figure("below <it>"), "Mine")
    svg = rendered(figure, "svg").decode()
    for text in ("This figure cannot be drawn as a file:", why, "Mine", "below &lt;it&gt;"):
        assert text in svg
    assert rendered(figure, "png").startswith(b"\x89PNG")
