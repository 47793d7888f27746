"""Plotly figures redrawn by matplotlib as files: PNG, and SVG whose text stays text.

Plotly cannot write files itself without a browser. Little more than what our figures use is
supported: lines, markers, error bars, one set of bars, contours and heat maps, in panels. For any
other figure the file says why it cannot be drawn.
"""

from __future__ import annotations

import html
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from data.reading import write_atomically
from models.checks import first_line
from search.analysis.wording import fitted
from search.figures import HEIGHT, KINDS, Kind, style

DPI = 150
WIDTH_INCHES, PX_PER_INCH = 8.0, 110
LINES = {"solid": "-", "dot": ":", "dashdot": "-.", "longdashdot": "-."}  # others are dashed
VERTICAL = {"top": "top", "bottom": "bottom"}  # other anchors: the middle
MARKERS = {"circle": "o", "diamond": "D", "diamond-wide": "d", "triangle-up": "^", "star": "*"}
MARKERS |= {"x": "X"}  # which has an inside to be left open
SMALL, TINY = 7, 5  # points
MOST_TITLE = 120  # characters of a line
MOST_LETTERS = 90  # of all x labels together, in a figure with one panel
MANY_LABELS = 25
OTHER_SCRIPTS = (  # fonts with Chinese, Japanese or Korean, which matplotlib's own font lacks
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR"),
    *("Arial Unicode MS", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),  # macOS
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),  # Windows
)


def fonts(installed: Collection[str]) -> list[str]:
    """The fonts of all text; each letter is taken from the first that has it."""
    return ["DejaVu Sans", *(font for font in OTHER_SCRIPTS if font in installed), "sans-serif"]


_SETTINGS: dict[Any, Any] = {
    "font.family": fonts(get_font_names()),
    "text.parse_math": False,  # a class may be called $x$
    "svg.fonttype": "none",
    "svg.hashsalt": "cnn-search",  # the same picture gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.frameon": False,
}
in_our_style = mpl.rc_context(_SETTINGS)  # decorates all that draws


def rendered(picture: go.Figure | Figure, kind: Kind, dpi: int = DPI) -> bytes:
    """A plotly figure, or one of matplotlib drawn `in_our_style`, as a file's content."""
    if isinstance(picture, Figure):
        return _saved(picture, kind, dpi)
    try:
        return _saved(drawn(picture), kind, dpi)
    except Exception as error:  # of any kind: one broken figure must not cost the others
        lost = go.Figure(layout={"title": picture.layout.title})
        why = f"{type(error).__name__}: {first_line(error)}"
        style.note_absence(lost, "This figure cannot be drawn as a file:", why)
        return _saved(drawn(lost), kind, dpi)


@in_our_style
def _saved(picture: Figure, kind: Kind, dpi: int) -> bytes:
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    content = BytesIO()
    with warnings.catch_warnings():
        # Scripts that no font here has become boxes in the PNG; the SVG has the text.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        picture.savefig(content, format=kind, dpi=dpi, metadata=metadata)
    return content.getvalue()


def write_pictures(
    pictures: Mapping[str, go.Figure | Figure], folder: Path, kinds: Collection[Kind] = KINDS
) -> list[Path]:
    """Each picture as `<name>.<kind>`, written whole or not at all. Returns the files."""
    files = {folder / f"{name}.{kind}": (name, kind) for name in pictures for kind in kinds}
    for file, (name, kind) in files.items():
        write_atomically(file, rendered(pictures[name], kind))
    return list(files)


@in_our_style
def drawn(plot: go.Figure) -> Figure:
    """The plotly figure on a white background. Raises any kind of error if it cannot be drawn."""
    kinds: dict[str, Callable[[Axes, Any], None]] = {
        "scatter": _draw_lines,
        "scattergl": _draw_lines,
        "bar": _draw_bars,
        "contour": _draw_contour,
        "heatmap": _draw_heatmap,
    }
    # The figure's own `to_dict` encodes arrays.
    layout, traces = plot.layout.to_plotly_json(), [one.to_plotly_json() for one in plot.data]
    if unknown := {trace["type"] for trace in traces} - kinds.keys():
        raise ValueError(f"files can show {', '.join(kinds)}, but not {min(unknown)}")
    names = sorted((key for key in layout if key.startswith("xaxis")), key=lambda x: (len(x), x))
    given = [(layout[name], layout[name.replace("x", "y", 1)]) for name in names]
    rows = len({y.get("domain", (0, 1))[0] for _, y in given})
    columns = math.ceil(len(names) / rows)
    size = (WIDTH_INCHES, layout.get("height", HEIGHT) / PX_PER_INCH)
    picture = Figure(figsize=size, layout="constrained")
    shared = any(y.get("matches") for _, y in given)
    grid = picture.subplots(rows, columns, squeeze=False, sharey=shared).flat
    panels = {name.replace("axis", ""): axes for name, axes in zip(names, grid, strict=False)}
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    for trace in traces:
        kinds[trace["type"]](panels[trace.get("xaxis", "x")], trace)
    for axes, (x, y) in zip(panels.values(), given, strict=True):
        axes.set_axisbelow(True)
        _furnish(axes, "x", x, MOST_LETTERS // columns)
        _furnish(axes, "y", y)
    domains = [[axis.get("domain", (0, 1)) for axis in pair] for pair in given]
    for note in layout.get("annotations", ()):
        place, text = [note["x"], note["y"]], plain(note["text"])
        look = {"fontsize": 8, "ha": "center", "va": VERTICAL.get(note.get("yanchor"), "center")}
        if note.get("xref") == "paper":  # such as the titles of panels
            axes, place = min(
                zip(panels.values(), (_within(place, it) for it in domains), strict=True),
                key=lambda panel: sum(abs(at - min(max(at, 0), 1)) for at in panel[1]),
            )
            axes.text(*place, text, transform=axes.transAxes, **look)
        else:
            panels.get(note.get("xref", "x"), panels["x"]).text(*place, text, **look)
    title = plot.layout.title
    lines = plain(f"{title.text}<br>{title.subtitle.text}").split("\n")
    text = "\n".join(fitted(line, MOST_TITLE) for line in lines)
    picture.suptitle(text, fontsize=9, x=0.01, ha="left")
    if sum(len(axes.get_legend_handles_labels()[1]) for axes in panels.values()) > 1:
        picture.legend(loc="outside right upper", fontsize=SMALL)
    return picture


def _within(place: Iterable[float], domain: Iterable[tuple[float, float]]) -> list[float]:
    """A place in the figure in units of a panel, which extends from 0 to 1."""
    return [(at - low) / (high - low) for at, (low, high) in zip(place, domain, strict=True)]


def plain(text: str) -> str:
    """Plotly's HTML as text: the inverse of `in_figure`, with `<br>` as a new line."""
    return html.unescape(re.sub(r"<br\s*/?>", "\n", text))


def _values(values: Sequence[Any]) -> Any:
    """As floats, with NaN for None, which interrupts a line; else dates, and text, which matplotlib
    puts at 0, 1, 2."""
    if np.asarray(values).dtype.kind == "M":
        return values
    try:
        return np.array(values, dtype=float)
    except (TypeError, ValueError):
        return [plain(value) if isinstance(value, str) else value for value in values]


def _spread(trace: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{axis}err": trace.get(f"error_{axis}", {}).get("array") for axis in "xy"}


def _draw_lines(axes: Axes, trace: Mapping[str, Any]) -> None:
    line, marker, mode = trace.get("line", {}), trace.get("marker", {}), trace.get("mode", "lines")
    look: dict[str, Any] = {
        "color": marker.get("color", line.get("color")),
        "alpha": trace.get("opacity", 1),
        "linestyle": LINES.get(line.get("dash", "solid"), "--") if "lines" in mode else "",
        "linewidth": 0.8 * line.get("width", 2),
        "drawstyle": "steps-post" if line.get("shape") == "hv" else "default",
    }
    if "markers" in mode:
        symbol = marker.get("symbol", "circle")
        look["marker"] = MARKERS.get(symbol.removesuffix("-open"), "x")
        look["markersize"] = 0.7 * marker.get("size", 6)
        look |= {"markerfacecolor": "none"} if symbol.endswith("-open") else {}
    if "name" in trace and trace.get("showlegend", True):
        # Matplotlib leaves out labels that begin with an underscore.
        look["label"] = re.sub(r"\A(?=_)", " ", plain(trace["name"]))
    y = _values(trace["y"])
    x = _values(trace.get("x", range(len(y))))
    if not isinstance(look["color"], str | None):  # a colour for each point
        look = {"marker": look["marker"], "s": look["markersize"] ** 2, "label": look.get("label")}
        drawn = axes.scatter(x, y, c=marker["color"], **look)
        if symbol.endswith("-open"):
            drawn.set(edgecolor=drawn.get_facecolor(), facecolor="none")
        return
    axes.errorbar(x, y, **_spread(trace), capsize=3, **look)


def _draw_bars(axes: Axes, trace: Mapping[str, Any]) -> None:
    if axes.patches:
        raise ValueError("files can show one set of bars in a panel, not several")
    across = trace.get("orientation") == "h"
    draw: Callable[..., Any] = axes.barh if across else axes.bar
    places, lengths = (_values(trace[axis]) for axis in ("yx" if across else "xy"))
    draw(places, lengths, color=trace.get("marker", {}).get("color"), **_spread(trace))


def _draw_contour(axes: Axes, trace: Mapping[str, Any]) -> None:
    z = _values(trace["z"])
    rows, columns = np.nonzero(np.isfinite(z))
    x, y = _values(trace["x"])[columns], _values(trace["y"])[rows]
    try:
        shown = axes.tricontourf(x, y, z[rows, columns], cmap="Blues_r", levels=12)
    except (RuntimeError, ValueError):  # all points on a line
        return
    axes.figure.colorbar(shown, ax=axes, label=plain(trace["colorbar"]["title"]["text"]))


def _draw_heatmap(axes: Axes, trace: Mapping[str, Any]) -> None:
    values, bar = _values(trace["z"]), trace["colorbar"]
    low, high = trace["zmin"], trace["zmax"]
    shown = axes.imshow(values, cmap="Blues", vmin=low, vmax=high, interpolation="nearest")
    title = plain(bar["title"]["text"]).replace("\n", " ")
    beside = axes.figure.colorbar(shown, ax=axes, label=title, shrink=0.8)
    beside.set_ticks(bar["tickvals"], labels=bar["ticktext"])
    if "texttemplate" in trace:
        for (row, column), value in np.ndenumerate(values):
            color = "white" if value > (2 * low + 3 * high) / 5 else "black"
            text = trace["text"][row][column]
            axes.text(column, row, text, ha="center", va="center", color=color, size=SMALL)


def _furnish(axes: Axes, name: str, given: Mapping[str, Any], most_letters: int = 0) -> None:
    """The x or y axis: its scale, range, labels and grid."""
    axis, log = getattr(axes, f"{name}axis"), given.get("type") == "log"
    axis.set_visible(given.get("visible") is not False)
    if log:
        axes.set(**{f"{name}scale": "log"})
    if given.get("showgrid", True):
        axis.grid(True, color="#7F7F7F", alpha=0.2, linewidth=0.6)
    axis.set_label_text(plain(given.get("title", {}).get("text") or ""))
    if given.get("range") is not None:
        low, high = given["range"]
        axes.set(**{f"{name}lim": (10**low, 10**high) if log else (low, high)})
    elif given.get("autorange") == "reversed":
        axis.set_inverted(True)
    elif given.get("rangemode") == "tozero" and not log:
        axes.set(**{f"{name}lim": (0, None)})
    if log:  # plain numbers: powers of ten need math text, which is switched off
        axis.set_major_locator(LogLocator(subs=(1,) if given.get("dtick") == 1 else (1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}".replace(",", " ")))
        axis.set_minor_formatter(NullFormatter())
    if "ticktext" in given:
        labels = [plain(text) for text in given["ticktext"]]
        many = len(labels) > MANY_LABELS
        axis.set_ticks(given["tickvals"], labels, fontsize=TINY if many else SMALL)
        if most_letters and sum(map(len, labels)) > most_letters:  # they would overlap
            axis.set_tick_params(labelrotation=90 if many else 30)
            for label in axis.get_ticklabels():
                label.set(ha="right", rotation_mode="anchor")
