"""One style for all figures, and the data they take from a study: few digits, few points.

The colours are those of Okabe and Ito (2008, "Color Universal Design") that keep a contrast of 3:1
on white and on the pages' dark background. Lines also differ in their dashes.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import plotly.graph_objects as go

from data.errors import grouped
from search.analysis.measures import guessing_value
from search.analysis.wording import data_in_words, fitted
from search.spec.recipe import PARTIAL_EPOCH
from search.store.records import EpochRow
from search.store.views import State, StudyView, TrialView

T = TypeVar("T")

BLUE, VERMILION, GREEN, PURPLE = COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "#7F7F7F"  # for comparison only
DASHES = ("solid", "dash", "dot")
STATES: dict[State, tuple[str, str, str]] = {  # of trials: marker; colour and dash of a curve
    "complete": ("circle", GREY, "solid"),
    "pruned": ("x", GREY, "solid"),
    "paused": ("x-open", GREY, "dash"),
    "running": ("diamond-open", GREEN, "dot"),
    "interrupted": ("diamond-wide-open", GREEN, "dashdot"),
    "failed": ("triangle-up", PURPLE, "dot"),
}
MOST_POINTS, BEST = 60, 10  # trials of each kind; the best are always drawn

LEFT = 60  # pixels of margin, or more if labels need it

_TEXT = "#7D7D7D"  # 4.1:1 on white and the dashboard's dark background; pages have their own
_GRID = "rgba(127,127,127,0.22)"
_NOTHING = "rgba(0,0,0,0)"


def line_style(rank: int) -> dict[str, Any]:
    """Colour and dash of the line at this rank, from 0: twelve different ones."""
    dash, colour = divmod(rank, len(COLOURS))
    return {"color": COLOURS[colour], "dash": DASHES[dash % len(DASHES)]}


def add(
    figure: go.Figure, x: Sequence[Any], y: Sequence[Any], name: str, hover: str = "", **look: Any
) -> None:
    """Add points, or a line if `look` has only `line`, with few digits. A line without two points
    to join becomes points. `hover`: plotly's template."""
    x, y = ([short(it) if isinstance(it, float) else it for it in values] for values in (x, y))
    if "marker" not in look and all(None in pair for pair in pairwise(y)):  # no two to join
        look["marker"] = {"color": look["line"]["color"], "size": 6}
    shown = {"hovertemplate": f"{hover}<extra></extra>"} if hover else {"hoverinfo": "skip"}
    mode = "markers" if "marker" in look else "lines"
    figure.add_scatter(x=x, y=y, name=name, **{"mode": mode, **shown, **look})


def add_trials(
    figure: go.Figure,
    view: StudyView,
    trials: Sequence[TrialView],
    x: Callable[[TrialView], Any],
    label: Callable[[TrialView], str] = lambda trial: f"#{trial.number}",
    **panel: Any,
) -> None:
    """Add trials as points at `x` and their lowest value, with a marker for each state and for the
    baseline; of each kind the BEST and MOST_POINTS others.

    The longer a trial was trained, the bluer it is. `panel`: `row`, `col` and `showlegend` of one
    of several panels, which share a legend and have smaller markers.
    """
    hover = f"%{{customdata}}: {view.spec.value.word} %{{y}}"
    markers: dict[str, dict[str, Any]] = {
        **{state: {"symbol": symbol, "size": 8} for state, (symbol, *_) in STATES.items()},
        "baseline": {"symbol": "star", "size": 13, "color": VERMILION},
    }
    for name, marker in markers.items():
        of_kind = [t for t in trials if ("baseline" if t.is_baseline else t.state) == name]
        found = sorted((low, t.number, t) for t in of_kind if (low := lowest(t)) is not None)
        if not found:
            continue
        shown = [*found[:BEST], *thinned(found[BEST:], MOST_POINTS)]
        ys, _, drawn = zip(*shown, strict=True)
        more = {"customdata": list(map(label, drawn)), **panel}
        look = {"color": [_trained_colour(view, trial) for trial in drawn], **marker}
        if panel:
            look["size"], more["legendgroup"] = 6, name
        xs, told = list(map(x, drawn)), with_count(name, shown, found)
        add(figure, xs, ys, told, hover, marker=look, **more)


def _trained_colour(view: StudyView, trial: TrialView) -> str:
    """From grey (not trained) to blue (all epochs)."""
    share = min(1.0, len(trial.curve) / view.spec.epochs)
    pairs = zip(*(bytes.fromhex(colour[1:]) for colour in (GREY, BLUE)), strict=True)
    return "#" + "".join(f"{round(grey + share * (blue - grey)):02X}" for grey, blue in pairs)


def apply_style(figure: go.Figure, below: str, title: str | None = None) -> None:
    """Give the figure a subtitle, and our style: transparent, without plotly's template of 6 kB.

    The texts are plotly's HTML: escape user-supplied text with `in_figure`.
    """
    lower = {"text": below, "font": {"size": 12, "color": _TEXT}}
    figure.update_layout(
        template="none",
        title={
            "text": title or figure.layout.title.text,
            "subtitle": lower,
            "font": {"size": 16},
            # At the figure's left, where long labels that widen the margin do not move it.
            "x": 0,
            "xanchor": "left",
            "xref": "container",
            "pad": {"l": LEFT},
        },
        font={"family": "system-ui, sans-serif", "size": 12, "color": _TEXT},
        paper_bgcolor=_NOTHING,
        plot_bgcolor=_NOTHING,
        legend={"font": {"size": 11}},
        modebar={"bgcolor": _NOTHING, "color": GREY, "activecolor": BLUE},
        margin={"l": LEFT, "r": 20, "t": 100, "b": 50},
        separators=". ",
    )
    axis = {"gridcolor": _GRID, "linecolor": _GRID, "zeroline": False, "automargin": True}
    axis["minorloglabels"] = "complete"  # 0.2, where plotly would write 2
    figure.update_xaxes(**axis, title_standoff=8).update_yaxes(**axis, title_standoff=8)


def note_absence(figure: go.Figure, *lines: str) -> None:
    """Plain text in the middle of a figure that has nothing to show."""
    place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    note = "<br>".join(in_figure(fitted(line, 100)) for line in lines)
    figure.add_annotation(text=note, showarrow=False, font={"size": 14}, **place)
    figure.update_xaxes(visible=False).update_yaxes(visible=False)


def subtitle(view: StudyView, remark: str = "one run each") -> str:
    """Data set and counts; below, progress and the remark: at most about 75 characters."""
    return (
        f"{in_figure(data_in_words(view))}<br>{grouped(view.finished)} of "
        f"{grouped(view.spec.trials)} trials finished; {remark}"
    )


def in_figure(text: str) -> str:
    """User-supplied text for plotly's HTML, which has no entity for quotation marks."""
    return html.escape(text, quote=False)


def axis(view: StudyView) -> str:
    """What trials are compared by: `validation loss (cross entropy, nats)`."""
    value = view.spec.value
    return f"{value.label} ({value.unit})" if value.unit else value.label


def y_values(figure: go.Figure) -> Iterator[Any]:
    """Of all points in all panels; None for gaps."""
    return (y for trace in figure.data for y in trace.y)


def value_axis(view: StudyView, drawn: Iterable[Any]) -> dict[str, Any]:
    """A logarithmic axis; a linear one for an error and if any value is 0, which would vanish.

    From the lowest of the values that are drawn (None: a gap), or from 0, to the highest, or to
    that of guessing if lower, because a diverging trial would squeeze all others into a line.
    """
    found, guessing = [value for value in drawn if value is not None], guessing_value(view)
    low, high = min(found, default=guessing / 10), max(found, default=guessing)
    top = 1.05 * (max(min(high, guessing), low) or guessing)
    if view.spec.value.unit and low > 0:
        ends = [math.log10(0.95 * low), math.log10(top)]
        return {"title_text": axis(view), "type": "log", "range": ends}
    ends = [-0.02 * top, top]  # a marker at 0 is drawn whole
    return {"title_text": axis(view), "type": "linear", "rangemode": "tozero", "range": ends}


def at_epoch(row: EpochRow) -> float:
    """The epoch, or for rung 0 the share of the first epoch after which it was taken."""
    return row.epoch or round(PARTIAL_EPOCH, 2)


def points(trial: TrialView) -> list[tuple[float, float]]:
    """(epoch, value) of its reports with a finite value."""
    found = ((at_epoch(row), short(row.value)) for row in trial.reports)
    return [(epoch, value) for epoch, value in found if value is not None]


def lowest(trial: TrialView) -> float | None:
    """Value of its best epoch; of rung 0 if it got no further."""
    best = trial.best or trial.partial_epoch
    return None if best is None else short(best.value)


def thinned(items: Sequence[T], most: int) -> Sequence[T]:
    """At most `most` (2 or more) items, evenly spaced, including the first and the last."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def joined(lines: Iterable[Sequence[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """The columns of many lines of points as one trace, with None between them, for gaps.

    There must be at least one line, and none may be empty.
    """
    points = [point for line in lines for point in (*line, (None,) * len(line[0]))]
    return list(zip(*points, strict=True))


def with_count(name: str, shown: Sequence[T], all_of_them: Sequence[T]) -> str:
    """`pruned (30)`, or `pruned (60 of 412)` if not all are drawn."""
    some = "" if len(shown) == len(all_of_them) else f"{len(shown)} of "
    return f"{name} ({some}{grouped(len(all_of_them))})"


def short(value: float | None) -> float | None:
    """Four significant digits, as many as can be seen; None if not finite."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None
