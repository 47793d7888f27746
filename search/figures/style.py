"""One style for all figures: readable on light and on dark ground, and without colour vision.

The colours are those of Okabe and Ito (2008, "Color Universal Design") that keep a contrast of 3:1
both on white and on the pages' dark ground. Lines differ by their dashes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from search.analysis.wording import fitted
from search.figures.values import in_figure, lowest, subtitle, thinned, with_count
from search.store.views import State, StudyView, TrialView

BLUE, VERMILION, GREEN, PURPLE = COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "#7F7F7F"  # what is there for comparison only
DASHES = ("solid", "dash", "dot")
STATES: Mapping[State, tuple[str, str, str]] = {  # of trials: colour, marker, dash of a curve
    "complete": (BLUE, "circle", "solid"),
    "pruned": (GREY, "x", "solid"),
    "paused": (GREY, "x-open", "dash"),
    "running": (GREEN, "diamond-open", "dot"),
    "interrupted": (GREEN, "diamond-wide-open", "dashdot"),
    "failed": (PURPLE, "triangle-up", "dot"),
}
MOST_POINTS, BEST = 60, 10  # trials of each kind, the best ones in any case

_TEXT = "#7D7D7D"  # 4.1:1 on white and on the dashboard's dark ground; pages have their own colour
_GRID = "rgba(127,127,127,0.22)"
_NOTHING = "rgba(0,0,0,0)"
_MOST_ERROR = 100  # characters of an error's text


def line_style(rank: int) -> dict[str, Any]:
    """Colour and dash of the line at this rank, from 0: twelve that differ."""
    return {
        "color": COLOURS[rank % len(COLOURS)],
        "dash": DASHES[rank // len(COLOURS) % len(DASHES)],
    }


def add(
    figure: go.Figure, x: Sequence[Any], y: Sequence[Any], name: str, hover: str = "", **look: Any
) -> None:
    """Add points, or a line where `look` has `line` alone.

    `hover`: plotly's template for a point; without one the pointer finds nothing.
    """
    shown = {"hovertemplate": f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}
    mode = "markers" if "marker" in look else "lines"
    figure.add_scatter(x=x, y=y, name=name, **{"mode": mode, **shown, **look})


def kinds(
    trials: Sequence[TrialView],
) -> Iterator[tuple[str, list[TrialView], Mapping[str, Any]]]:
    """(name, trials, marker) of those in each state, and of the baseline, apart from them."""
    for state, (color, symbol, _) in STATES.items():
        found = [trial for trial in trials if trial.state == state and not trial.is_baseline]
        yield state, found, {"color": color, "symbol": symbol, "size": 8}
    star = {"color": VERMILION, "symbol": "star", "size": 13}
    yield "baseline", [trial for trial in trials if trial.is_baseline], star


def add_trials(
    figure: go.Figure,
    view: StudyView,
    trials: Sequence[TrialView],
    x: Callable[[TrialView], Any],
    name: str,
    marker: Mapping[str, Any],
    label: Callable[[TrialView], str] = lambda trial: f"#{trial.number}",
    **more: Any,
) -> None:
    """Trials as points at `x` and their lowest value: the BEST and MOST_POINTS others."""
    found = sorted((low, t.number, t) for t in trials if (low := lowest(t)) is not None)
    shown = [*found[:BEST], *thinned(found[BEST:], MOST_POINTS)]
    if shown:
        hover = f"%{{customdata}}: {view.spec.value.word} %{{y}}"
        xs, ys = [x(trial) for *_, trial in shown], [low for low, *_ in shown]
        labels = [label(trial) for *_, trial in shown]
        name = with_count(name, shown, found)
        add(figure, xs, ys, name, hover, marker=marker, customdata=labels, **more)


def apply_style(figure: go.Figure, below: str, title: str | None = None) -> None:
    """Give the figure a subtitle, and our style: transparent, without plotly's template of 6 kB.

    The texts are plotly's HTML: escape what people typed with `in_figure`.
    """
    subtitle = {"text": below, "font": {"size": 12, "color": _TEXT}}
    place = {"x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 16}}
    figure.update_layout(
        template="none",
        title={"text": title or figure.layout.title.text, "subtitle": subtitle, **place},
        font={"family": "system-ui, sans-serif", "size": 12, "color": _TEXT},
        paper_bgcolor=_NOTHING,
        plot_bgcolor=_NOTHING,
        legend={"font": {"size": 11}},
        modebar={"bgcolor": _NOTHING, "color": GREY, "activecolor": BLUE},
        margin={"l": 60, "r": 20, "t": 100, "b": 50},
        separators=". ",
    )
    axis = {"gridcolor": _GRID, "linecolor": _GRID, "zeroline": False, "automargin": True}
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(**axis, title_standoff=8)


def complete(figure: go.Figure, title: str, source: Any) -> go.Figure:
    """Give the figure what it lacks of title and style. `source`: a StudyView or FinalResult."""
    if figure.layout.title.subtitle.text is None:
        apply_style(figure, subtitle(getattr(source, "view", source)))
    if figure.layout.title.text is None:
        figure.update_layout(title_text=title)
    return figure


def note_absence(figure: go.Figure, text: str) -> None:
    """In the middle of a figure that has nothing to show yet."""
    place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    figure.add_annotation(text=text, showarrow=False, font={"size": 14}, **place)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)


def or_absence(figure: go.Figure, text: str) -> go.Figure:
    """The figure, which says so where it has nothing to show yet."""
    if not figure.data:
        note_absence(figure, text)
    return figure


def missing(text: str) -> go.Figure:
    """A figure that says in plain text why there is none."""
    figure = go.Figure()
    note_absence(figure, in_figure(fitted(text, _MOST_ERROR)))
    return figure
