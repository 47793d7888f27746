"""One look for all figures: readable on light and on dark ground, and without colour vision.

The colours are those of Okabe and Ito (2008, "Color Universal Design") that keep a contrast of 3:1
both on white and on the pages' dark ground; under simulated protanopia, deuteranopia and
tritanopia any two stay at least 15 units of CIE Lab apart. Lines differ by their dashes, too.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

BLUE, VERMILION, GREEN, PURPLE = COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY = "#7F7F7F"  # what is there for comparison only
DASHES = ("solid", "dash", "dot")
DARK_GROUND = "#14171C"

_TEXT = "#7D7D7D"  # 4.1:1 on white and on the dashboard's dark ground; pages have their own colour
_GRID = "rgba(127,127,127,0.22)"
_AXIS = {
    "gridcolor": _GRID,
    "linecolor": _GRID,
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 8},
}


def line_look(rank: int) -> dict[str, Any]:
    """Colour and dash of the line at this rank, from 0: twelve that differ."""
    return {
        "color": COLOURS[rank % len(COLOURS)],
        "dash": DASHES[rank // len(COLOURS) % len(DASHES)],
    }


def dress(figure: go.Figure, title: str, subtitle: str) -> None:
    """Give the figure its title and our look: transparent, without plotly's template of 6 kB.

    The texts are plotly's HTML: escape what people typed with `in_figure`.
    """
    figure.update_layout(
        template="none",
        title={
            "text": title,
            "subtitle": {"text": subtitle, "font": {"size": 12, "color": _TEXT}},
            "font": {"size": 16},
            "x": 0,
            "xanchor": "left",
            "xref": "paper",
        },
        font={"family": "system-ui, sans-serif", "size": 12, "color": _TEXT},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"font": {"size": 11}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
        margin={"l": 60, "r": 20, "t": 100, "b": 50},
        separators=". ",
    )
    figure.update_xaxes(**_AXIS)
    figure.update_yaxes(**_AXIS)


def note_absence(figure: go.Figure, text: str) -> None:
    """In the middle of a figure that has nothing to show yet."""
    figure.add_annotation(
        text=text, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14}
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)


def in_figure(text: str) -> str:
    """Text that people typed, for plotly's HTML, which knows no entity for quotation marks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
