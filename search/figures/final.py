"""How one network, the final one or a trial's, learned and what it confuses. K classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from data.errors import grouped
from search.analysis.final_result import FinalResult, tested_on
from search.analysis.wording import data_in_words, fitted, percent, printable, told_apart
from search.figures import FINAL_FIGURES, by_file_name, draw_all, style
from search.figures.files import rendered
from search.figures.images import draw_feature_maps, draw_kernels, draw_mistakes
from search.store.records import EpochRow
from search.store.views import StudyView, TrialView

PANELS = ((1, "loss", 1), (2, "error", 100))  # column, what, factor
MOST_NUMBERS = 25  # classes; with more, cells show no counts and have no gaps
MOST_HOVERS = 50_000  # cells with a text; each has two names of classes
MOST_LABELS = 50  # classes; of more, every second, third or so is named on the axes
BLUES = [[0, "#F7FBFF"], [0.5, "#6BAED6"], [1, "#08306B"]]
SHARES = (0, 0.01, 0.05, 0.2, 0.5, 1)  # ticks on the confusion matrix's colour scale
DPI = 100  # of a trial's pictures in the dashboard


def training_curves(final: FinalResult) -> go.Figure:
    """Loss and error by epoch: the trial's training and validation, the final runs' training."""
    number = final.trial.number
    names = f"trial #{number}: training", f"trial #{number}: validation"
    figure = loss_and_error(final.trial.curve, final.trial.best, names)
    name, line = "final runs: training", {"color": style.GREY, "width": 1}
    for column, what, factor in PANELS:
        for rank, run in enumerate(final.runs):
            x = [row.epoch for row in run.curve]
            y = [factor * getattr(row, f"train_{what}") for row in run.curve]
            place = {"row": 1, "col": column, "showlegend": column == 1 and rank == 0}
            hover = f"seed {run.seed}, epoch %{{x}}: %{{y}}"
            style.add(figure, x, y, name, hover, line=line, legendgroup="final", **place)
    style.apply_style(
        figure,
        f"{style.in_figure(data_in_words(final.view))}, one run; final runs: {len(final.runs)} on "
        f"{grouped(final.training_count)} images<br>training values are means over the epoch, "
        "augmented and with dropout, while the weights changed",
    )
    return figure


def loss_and_error(
    rows: Sequence[EpochRow], best: EpochRow | None, names: tuple[str, str]
) -> go.Figure:
    """Two panels by epoch, of training and validation (`names`); the best epoch is marked."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    looks = {"color": style.BLUE, "dash": "dash"}, {"color": style.VERMILION}
    circle = {"color": style.VERMILION, "size": 11, "symbol": "circle-open"}
    epochs = list(map(style.at_epoch, rows))
    for column, what, factor in PANELS:
        place = {"row": 1, "col": column, "showlegend": column == 1}
        for part, name, look in zip(("train", "validation"), names, looks, strict=True):
            values = [factor * getattr(row, f"{part}_{what}") for row in rows]
            hover = f"{name}, epoch %{{x}}: %{{y}}"
            style.add(figure, epochs, values, name, hover, line={**look, "width": 2}, **place)
        if best is not None:
            value = factor * getattr(best, f"validation_{what}")
            name, hover = f"best epoch: {best.epoch}", f"best epoch: {best.epoch}: %{{y}}"
            style.add(figure, [best.epoch], [value], name, hover, marker=circle, **place)
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text="loss (cross entropy, nats)", col=1)
    figure.update_yaxes(title_text="error (%)", col=2)
    return figure


def reliability_diagram(final: FinalResult) -> go.Figure:
    """Share of right predictions by mean confidence, a point per bin; equal on the diagonal."""
    figure, names = go.Figure(), ["the network's own"]
    if final.temperature != 1:
        names.append(f"logits divided by {final.temperature:.3f}")
    diagonal = {"color": style.GREY, "width": 1, "dash": "dash"}
    style.add(figure, [0, 1], [0, 1], "perfect calibration", line=diagonal)
    bins_2B3 = final.reliability if final.reliability is not None else ()
    for name, color, bins_B3 in zip(names, (style.VERMILION, style.BLUE), bins_2B3, strict=False):
        images_B, confidence_B, right_B = bins_B3[bins_B3[:, 0] > 0].T
        x, y = ((sums_B / images_B).round(3).tolist() for sums_B in (confidence_B, right_B))
        hover = "confidence %{x:.1%}, right %{y:.1%}, %{customdata} predictions"
        look = {"mode": "lines+markers", "marker": {"color": color}, "line": {"color": color}}
        style.add(figure, x, y, name, hover, customdata=images_B.astype(int).tolist(), **look)
    style.apply_style(figure, style.in_figure(tested_on(final)))
    figure.update_xaxes(title_text="mean confidence of a bin", range=[0, 1.02])
    return figure.update_yaxes(title_text="share of right predictions", range=[0, 1.02])


def confusion_on_test(final: FinalResult) -> go.Figure:
    names = final.view.dataset.class_names
    return confusion_matrix(final.confusion_KK, names, tested_on(final))


def confusion_matrix(
    confusion_KK: NDArray[np.int64], class_names: Sequence[str], below: str, *, hovers: bool = True
) -> go.Figure:
    """Counts, a row per true class. Colour: square root of the row's share, so that errors show.

    `hovers`: with a text for each cell; of many classes only for cells with images, at most
    MOST_HOVERS with the highest counts.
    """
    # A class without images keeps a row of zeros.
    shares_KK = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    apart, many = told_apart(class_names), len(class_names) > MOST_NUMBERS
    labels = [style.in_figure(apart[name]) for name in class_names]
    names = [style.in_figure(printable(name)) for name in class_names]
    counts, least = confusion_KK.tolist(), 0 if many else -1
    if confusion_KK.size > MOST_HOVERS:
        least = int(np.partition(confusion_KK, -MOST_HOVERS, axis=None)[-MOST_HOVERS])
    bar = {
        "title": {"text": "share of<br>true class"},
        "tickvals": [math.sqrt(share) for share in SHARES],
        "ticktext": [percent(share, 0) for share in SHARES],
    }
    figure = go.Figure()
    figure.add_heatmap(
        z=np.sqrt(shares_KK).round(3).tolist(),
        zmin=0,
        zmax=1,
        colorscale=BLUES,
        # Zeros are left out so that mistakes stand out.
        text=None if many else [[str(count) if count else "" for count in row] for row in counts],
        texttemplate=None if many else "%{text}",
        hovertext=[
            [
                f"{true} taken for {names[j]}: {grouped(count)}" if count > least else ""
                for j, count in enumerate(row)
            ]
            for true, row in zip(names, counts, strict=True)
        ]
        if hovers
        else None,
        hoverinfo="text",
        xgap=int(not many),
        ygap=int(not many),
        colorbar=bar,
    )
    style.apply_style(figure, style.in_figure(below), "Confusion matrix")
    figure.update_layout(height=900 if many else 660)
    step = math.ceil(len(labels) / MOST_LABELS)
    ticks: dict[str, Any] = {
        "tickvals": list(range(0, len(labels), step)),
        "ticktext": labels[::step],
        "tickfont": {"size": 9 if many else 12},
        "showgrid": False,
    }
    figure.update_xaxes(title_text="predicted class", constrain="domain", **ticks)
    figure.update_yaxes(title_text="true class", autorange="reversed", scaleanchor="x", **ticks)
    return figure


def final_pictures(final: FinalResult) -> dict[str, go.Figure | Figure]:
    """All that finalize shows, by file name: FINAL_FIGURES, then images drawn by matplotlib."""
    title, names = fitted(final.view.dataset.title), final.view.dataset.class_names
    network = f"trial {final.trial.number}, seed {final.runs[0].seed}"
    made: dict[str, go.Figure | Figure] = {**draw_all(by_file_name(FINAL_FIGURES), final)}
    if final.kernels is not None:
        made["kernels"] = draw_kernels(final.kernels, f"{title}: kernels, {network}")
    if final.features is not None:
        made["features"] = draw_feature_maps(final.features, f"{title}: feature maps, {network}")
    if final.mistakes:
        words = f"{title}: the most confident test mistakes, {network}"
        made["mistakes"] = draw_mistakes(final.mistakes, names, words)
    return made


def trial_pictures(
    view: StudyView, trial: TrialView, confusion_KK: NDArray[np.int64]
) -> dict[str, bytes]:
    """PNG of each picture of a trial with a report, by its file's name.

    `confusion_KK` counts validation images, after the last epoch.
    """
    data, last, best = data_in_words(view), trial.reports[-1].epoch, trial.best
    parts = "training (augmented, with dropout)", "validation"
    curves = loss_and_error(trial.reports, best, parts)
    found = "" if best is None else f"<br>best after epoch {best.epoch} of {last}"
    style.apply_style(curves, f"{style.in_figure(data)}; one run{found}", f"Trial {trial.number}")
    curves.update_layout(height=350)
    right, images = grouped(int(np.trace(confusion_KK))), grouped(int(confusion_KK.sum()))
    score = f"{right} of {images} validation images right after epoch {last}"
    below = f"Trial {trial.number}, {score}\n{data}; one run"
    names = view.dataset.class_names
    confused = confusion_matrix(confusion_KK, names, below, hovers=False)
    return {
        "learning curves.png": rendered(curves, "png", DPI),
        "confusion matrix.png": rendered(confused, "png", DPI),
    }
