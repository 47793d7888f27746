"""Our plotly figures drawn once more by matplotlib, for papers: PNG, and SVG whose text stays text.

A figure is drawn from its own traces, so that file and page show the same data. What is drawn is
what our figures are made of: lines, markers, error bars, bars lying down, in one row of axes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from search.analysis.wording import fitted, grouped

WIDTH_INCHES, PX_PER_INCH = 8.0, 110
LINES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MARKERS = {  # plotly's name: matplotlib's, and whether it is filled
    "circle": ("o", True),
    "circle-open": ("o", False),
    "diamond": ("D", True),
    "diamond-open": ("D", False),
    "diamond-wide-open": ("d", False),
    "triangle-up": ("^", True),
    "star": ("*", True),
    "x": ("x", True),
}
FEW_DECADES = 2.5  # up to which a logarithmic axis has labels between the powers of ten
SMALL = 7  # points
MOST_TITLE = 120  # characters of a line
MOST_LETTERS = 90  # of a panel's labels beside each other, of a figure with one panel


def drawn(figure: Mapping[str, Any], height: int = 420) -> Figure:
    """The figure, given by its `to_dict()`, on white ground. `height` in the page's pixels."""
    layout = figure["layout"]
    names = sorted((key for key in layout if key.startswith("xaxis")), key=_axis_number)
    size = (WIDTH_INCHES, layout.get("height", height) / PX_PER_INCH)
    picture = Figure(figsize=size, layout="constrained")
    shared = any(layout[name.replace("x", "y", 1)].get("matches") for name in names)
    panels = picture.subplots(1, len(names), squeeze=False, sharey=shared)[0]
    places = dict(zip([_short(name) for name in names], panels, strict=True))
    for trace in figure["data"]:
        _draw(places[trace.get("xaxis", "x")], trace)
    for name, axes in zip(names, panels, strict=True):
        _furnish(axes, layout[name], layout[name.replace("x", "y", 1)], len(names))
    _annotate(places, layout)
    _name(picture, panels, layout["title"])
    return picture


def plain(text: str) -> str:
    """Plotly's HTML as text: `in_figure` backwards, `<br>` as a new line."""
    lines = re.sub(r"<br\s*/?>", "\n", text)
    return lines.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _axis_number(name: str) -> int:
    return int(name.removeprefix("xaxis") or 1)


def _short(name: str) -> str:
    """As traces call it: `x2` for `xaxis2`."""
    return name.replace("axis", "")


def _draw(axes: Axes, trace: Mapping[str, Any]) -> None:
    if trace["type"] == "bar":
        _draw_bars(axes, trace)
        return
    x, y = _numbers(trace["x"]), _numbers(trace["y"])
    line, marker = trace.get("line", {}), trace.get("marker", {})
    mode, alpha = trace.get("mode", "lines"), trace.get("opacity", 1)
    label = _label(trace)
    look: dict[str, Any] = {"color": line.get("color"), "alpha": alpha}
    if "lines" in mode:
        look |= {
            "linestyle": LINES[line.get("dash", "solid")],
            "linewidth": 0.8 * line.get("width", 2),
            "drawstyle": "steps-post" if line.get("shape") == "hv" else "default",
        }
    if mode == "markers" and not isinstance(marker.get("color"), str):
        # One call for each, as matplotlib has no list of edge colours for open markers in a line.
        for place, colour in enumerate(marker["color"]):
            dot = {"color": colour, "alpha": alpha, **_markers(marker)}
            axes.plot(x[place], y[place], label=label if place == 0 else None, ls="", **dot)
        return
    if "markers" in mode:
        look |= _markers(marker)
        look["color"] = marker.get("color", line.get("color"))
        look.setdefault("linestyle", "")
    if "error_x" in trace:
        spread = [value or 0.0 for value in trace["error_x"]["array"]]
        axes.errorbar(x, y, xerr=spread, label=label, elinewidth=1.2, capsize=3, **look)
    else:
        axes.plot(x, y, label=label, **look)


def _label(trace: Mapping[str, Any]) -> str | None:
    """For the legend. Matplotlib leaves out labels that begin with an underscore."""
    if "name" not in trace or not trace.get("showlegend", True):
        return None
    label = plain(trace["name"])
    return f" {label}" if label.startswith("_") else label


def _markers(marker: Mapping[str, Any]) -> dict[str, Any]:
    shape, filled = MARKERS[marker.get("symbol", "circle")]
    look = {"marker": shape, "markersize": 0.7 * marker.get("size", 6)}
    return look if filled else {**look, "markerfacecolor": "none"}


def _draw_bars(axes: Axes, trace: Mapping[str, Any]) -> None:
    names = [plain(str(name)) for name in trace["y"]]
    colour = trace["marker"]["color"]
    spread = trace.get("error_x", {}).get("array")
    bars = axes.barh(
        names, _numbers(trace["x"]), color=colour, xerr=spread, error_kw={"elinewidth": 1.2}
    )
    if "text" in trace:
        axes.bar_label(bars, [plain(text) for text in trace["text"]], padding=4, fontsize=8)
        axes.margins(x=0.25)


def _numbers(values: Sequence[Any]) -> list[float]:
    """None, which parts a line, as NaN."""
    return [math.nan if value is None else float(value) for value in values]


def _furnish(axes: Axes, x: Mapping[str, Any], y: Mapping[str, Any], panels: int) -> None:
    axes.set_axisbelow(True)
    for name, axis, given in (("x", axes.xaxis, x), ("y", axes.yaxis, y)):
        log = given.get("type") == "log"
        if given.get("visible") is False:
            axis.set_visible(False)
        if log:
            axes.set(**{f"{name}scale": "log"})
        if given.get("showgrid", True):
            axis.grid(True, color="#7F7F7F", alpha=0.2, linewidth=0.6)
        if "title" in given and "text" in given["title"]:
            axes.set(**{f"{name}label": plain(given["title"]["text"])})
        if given.get("showticklabels") is False:
            axis.set_ticks([])
        if "ticktext" in given:
            labels = [plain(text) for text in given["ticktext"]]
            axis.set_ticks(given["tickvals"], labels, fontsize=SMALL if name == "x" else None)
        if given.get("range") is not None:
            low, high = given["range"]
            axes.set(**{f"{name}lim": (10**low, 10**high) if log else (low, high)})
        elif given.get("autorange") == "reversed":
            axis.set_inverted(True)
        elif given.get("rangemode") == "tozero" and not log:
            axes.set(**{f"{name}lim": (0, None)})
        if log:
            _label_decades(axis)
    _turn(axes, x.get("ticktext", ()), MOST_LETTERS // panels)


def _label_decades(axis: Axis) -> None:
    """Plain numbers, as signs for powers of ten need formulas, which are switched off."""
    low, high = axis.get_view_interval()
    few = math.log10(high / low) < FEW_DECADES
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axis.set_minor_formatter(NullFormatter())


def _number(value: float) -> str:
    return grouped(round(value)) if value >= 1000 else f"{value:g}"


def _turn(axes: Axes, labels: Sequence[str], room: int) -> None:
    """Labels that would run into each other."""
    if sum(max(map(len, plain(label).split("\n"))) for label in labels) > room:
        axes.tick_params(axis="x", labelrotation=30)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def _annotate(places: Mapping[str, Axes], layout: Mapping[str, Any]) -> None:
    for shape in layout.get("shapes", ()):
        line = shape["line"]
        places[shape.get("xref", "x")].axvline(
            shape["x0"],
            color=line["color"],
            linewidth=1,
            linestyle=LINES[line.get("dash", "solid")],
        )
    first = next(iter(places.values()))
    for note in layout.get("annotations", ()):
        axes = places.get(note.get("xref", "x"), first)
        across = "axes fraction" if note.get("xref") == "paper" else "data"
        along = "axes fraction" if note.get("yref") == "paper" else "data"
        axes.annotate(
            plain(note["text"]),
            (note["x"], note["y"]),
            xycoords=(across, along),
            ha="left" if note.get("xanchor") == "left" else "center",
            va="center",
            fontsize=8,
            xytext=(0.75 * note.get("xshift", 0), 0),
            textcoords="offset points",
        )


def _name(picture: Figure, panels: Sequence[Axes], title: Mapping[str, Any]) -> None:
    lines = f"{plain(title['text'])}\n{plain(title['subtitle']['text'])}".split("\n")
    text = "\n".join(fitted(line, MOST_TITLE) for line in lines)
    picture.suptitle(text, fontsize=9, x=0.01, ha="left")
    handles: list[Artist] = []
    labels: list[str] = []
    for axes in panels:
        found = axes.get_legend_handles_labels()
        handles, labels = [*handles, *found[0]], [*labels, *found[1]]
    if len(handles) > 1:
        picture.legend(handles, labels, loc="outside right upper", fontsize=SMALL)
