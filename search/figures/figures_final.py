"""Figures of the final network: how it learned, what it confuses, what its first layer looks at.

K classes; kernels have the shape (C_out, C_in, height, width).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from search.analysis.final_result import FinalResult
from search.analysis.inside import KernelReport
from search.analysis.wording import data_in_words, fitted, grouped, percent, printable
from search.figures.figure_data import short
from search.figures.style import BLUE, GREY, VERMILION, dress, in_figure

MOST_NUMBERS = 25  # classes up to which each cell shows its count
GAP = np.nan  # between kernels: the ground shows
GAP_COLOUR = "#0072B240"  # no grey, so that kernels have edges; a quarter opaque


def training_curves(final: FinalResult) -> go.Figure:
    """Loss and error by epoch: the trial's training and validation, the final runs' training."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    curve = final.trial.curve
    epochs = [row.epoch for row in curve]
    by_seed = [(run.seed, run.curve) for run in final.runs]
    best = final.trial.best
    for column, what, factor in ((1, "loss", 1), (2, "error", 100)):
        place = {"row": 1, "col": column, "showlegend": column == 1}
        for name, colour, dash in (("train", BLUE, "dash"), ("validation", VERMILION, "solid")):
            figure.add_scatter(
                x=epochs,
                y=_shortened(factor * getattr(row, f"{name}_{what}") for row in curve),
                mode="lines",
                line={"color": colour, "width": 2, "dash": dash},
                name=f"trial #{final.trial.number}: {'training' if name == 'train' else name}",
                **place,
            )
        for rank, (seed, run) in enumerate(by_seed):
            figure.add_scatter(
                x=[epoch.epoch for epoch in run],
                y=_shortened(factor * getattr(epoch, f"train_{what}") for epoch in run),
                mode="lines",
                line={"color": GREY, "width": 1},
                name="final runs: training",
                legendgroup="final",
                hovertemplate=f"seed {seed}, epoch %{{x}}: %{{y}}<extra></extra>",
                **{**place, "showlegend": column == 1 and rank == 0},
            )
        if best is not None:
            figure.add_scatter(
                x=[best.epoch],
                y=_shortened([factor * getattr(best, f"validation_{what}")]),
                mode="markers",
                marker={"color": VERMILION, "size": 11, "symbol": "circle-open"},
                name=f"best epoch: {best.epoch}",
                **place,
            )
    dress(
        figure,
        "Training curves",
        f"{in_figure(data_in_words(final.view))}, one run; final runs: {len(final.runs)} on "
        f"{grouped(final.training_count)} images<br>training figures are means over the epoch, "
        "augmented and with dropout, as the weights changed",
    )
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(title_text="loss (cross entropy, nats)", rangemode="tozero", col=1)
    figure.update_yaxes(title_text="error (%)", rangemode="tozero", col=2)
    return figure


def _shortened(values: Iterable[float]) -> list[float | None]:
    return [short(value) for value in values]


def confusion_matrix(
    confusion_KK: NDArray[np.int64], class_names: Sequence[str], subtitle: str
) -> go.Figure:
    """Counts, rows by true class. Colour: square root of the row's share, so that errors show.

    `subtitle`: unescaped, like the class names.
    """
    shares_KK = row_shares(confusion_KK)
    names = [in_figure(printable(name)) for name in class_names]
    classes = len(names)
    marks = (0, 0.01, 0.05, 0.2, 0.5, 1)
    figure = go.Figure(
        go.Heatmap(
            z=np.sqrt(shares_KK).round(3).tolist(),
            zmin=0,
            zmax=1,
            colorscale="Blues",
            text=_counts(confusion_KK),
            texttemplate="%{text}" if classes <= MOST_NUMBERS else None,
            hovertext=[
                [
                    f"{names[i]} taken for {names[j]}:<br>{grouped(int(confusion_KK[i, j]))} "
                    f"({percent(shares_KK[i, j], 1)} of {names[i]})"
                    if confusion_KK[i].any()
                    else f"no pictures of {names[i]}"
                    for j in range(classes)
                ]
                for i in range(classes)
            ],
            hoverinfo="text",
            xgap=1,
            ygap=1,
            colorbar={
                "title": {"text": "share of<br>true class"},
                "tickvals": [math.sqrt(mark) for mark in marks],
                "ticktext": [percent(mark, 0) for mark in marks],
            },
        )
    )
    dress(figure, "Confusion matrix", in_figure(subtitle))
    labels = [in_figure(fitted(name)) for name in class_names]
    ticks = {"tickvals": list(range(classes)), "ticktext": labels}
    figure.update_xaxes(title_text="predicted class", showgrid=False, constrain="domain", **ticks)
    figure.update_yaxes(
        title_text="true class", showgrid=False, autorange="reversed", scaleanchor="x", **ticks
    )
    return figure


def row_shares(confusion_KK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each row divided by its sum; a class without images keeps a row of zeros."""
    totals_K1 = confusion_KK.sum(axis=1, keepdims=True)
    shares_KK: NDArray[np.float64] = confusion_KK / np.maximum(totals_K1, 1)
    return shares_KK


def _counts(confusion_KK: NDArray[np.int64]) -> list[list[str]]:
    """Zeros are left out: what is there stands out."""
    return [[str(count) if count else "" for count in row] for row in confusion_KK.tolist()]


def first_layer_kernels(
    kernels: NDArray[np.float32], subtitle: str, report: KernelReport | None = None
) -> go.Figure:
    """Each kernel as a picture, its input channels below each other; grey is zero for all.

    One scale from black (most negative) over grey to white, symmetric around 0. What the report
    marks is framed. `subtitle`: unescaped.
    """
    grid, owners = kernel_grid(kernels)
    limit = largest_weight(kernels)
    figure = go.Figure(
        go.Heatmap(
            z=[[short(value) for value in row] for row in grid.tolist()],
            zmin=-limit,
            zmax=limit,
            colorscale=[[0, "#000000"], [0.5, "#808080"], [1, "#FFFFFF"]],
            customdata=owners.tolist(),
            hovertemplate="kernel %{customdata}: %{z}<extra></extra>",
            hoverongaps=False,
            colorbar={"title": {"text": "weight"}},
        )
    )
    dress(
        figure,
        f"First-layer kernels ({len(kernels)})",
        f"{in_figure(subtitle)}<br>input channels below each other; grey is zero",
    )
    figure.update_layout(plot_bgcolor=GAP_COLOUR)
    hidden = {"showgrid": False, "showticklabels": False, "ticks": ""}
    figure.update_xaxes(constrain="domain", **hidden)
    figure.update_yaxes(autorange="reversed", scaleanchor="x", **hidden)
    for number, mark in ({} if report is None else report.marks).items():
        top, left, bottom, right = (place - 0.5 for place in extent(owners, number))
        frame = {"color": VERMILION, "width": 2}
        figure.add_shape(x0=left, x1=right, y0=top, y1=bottom, line=frame)
        figure.add_annotation(
            x=left,
            y=top,
            text=f"{number} {mark}",
            showarrow=False,
            xanchor="left",
            yanchor="top",
            font={"size": 9, "color": VERMILION},
            bgcolor="rgba(255,255,255,0.8)",
        )
    return figure


def kernel_grid(kernels: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The kernels in reading order, framed by gaps of one pixel, and whose each pixel is.

    Returns two arrays of one shape: weights, NaN in the gaps, and kernel numbers from 0, -1 in the
    gaps. Wider than high, about 2:1.
    """
    count, channels, height, width = kernels.shape
    columns = min(count, max(1, math.ceil(math.sqrt(2 * count * channels * height / width))))
    rows = math.ceil(count / columns)
    tall = channels * height
    shape = (rows * (tall + 1) + 1, columns * (width + 1) + 1)
    grid, owners = np.full(shape, GAP), np.full(shape, -1)
    for number, kernel in enumerate(kernels):
        top, left = number // columns * (tall + 1) + 1, number % columns * (width + 1) + 1
        place = np.s_[top : top + tall, left : left + width]
        grid[place] = kernel.reshape(tall, width)
        owners[place] = number
    return grid, owners


def extent(owners: NDArray[np.int64], number: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a kernel's pixels in the grid; the last two exclusive."""
    rows, columns = np.nonzero(owners == number)
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def largest_weight(kernels: NDArray[np.float32]) -> float:
    """Of finite size and above 0, for a scale around 0."""
    finite = np.abs(kernels[np.isfinite(kernels)])
    return float(finite.max()) if finite.size and finite.max() > 0 else 1.0
