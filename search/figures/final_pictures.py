"""Finalize's pictures as files, for papers and slides: PNG, and SVG whose text stays text.

Drawn with matplotlib's figure objects alone: no pyplot, no display.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from search.analysis.final_result import FinalResult
from search.analysis.wording import data_in_words, fitted, grouped
from search.figures.figures_final import (
    GAP_COLOUR,
    MOST_NUMBERS,
    extent,
    kernel_grid,
    largest_weight,
    row_shares,
)
from search.figures.images import draw_feature_maps, draw_mistakes
from search.figures.style import BLUE, GREY, VERMILION
from search.pages.final_words import tested_on
from search.training.files import write_atomically

DPI = 150
MOST_TITLE = 70  # characters
_SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,  # a class may be called $x$
    "svg.fonttype": "none",
    "svg.hashsalt": "cnn-search",  # the same picture gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.frameon": False,
}


def save_pictures(final: FinalResult, folder: Path) -> list[Path]:
    """Write every picture that `drawings` names into `folder`.

    Each on white ground, as PNG and as SVG, whole or not at all. Returns the files.
    """
    files = []
    for name, draw in drawings(final).items():
        for kind in ("png", "svg"):
            files.append(folder / f"{name}.{kind}")
            write_atomically(files[-1], rendered(draw, kind))
    return files


def drawings(final: FinalResult) -> dict[str, Callable[[], Figure]]:
    """What draws each picture: confusion matrix, training curves; where there are such, mistakes
    of the most confused pairs, first-layer kernels, and feature maps."""
    made: dict[str, Callable[[], Figure]] = {
        "confusion": partial(_confusion, final),
        "curves": partial(_curves, final),
    }
    if final.mistakes:
        made["mistakes"] = partial(_mistakes, final)
    if final.kernels is not None:
        made["kernels"] = partial(_kernels, final)
    if final.features is not None:
        made["features"] = partial(_features, final)
    return made


def rendered(draw: Callable[[], Figure], kind: Literal["png", "svg"]) -> bytes:
    """The picture as a file's content."""
    metadata = {"Software": None} if kind == "png" else {"Date": None}
    content = BytesIO()
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # A script that the bundled font lacks gives boxes in the PNG; the SVG has the text.
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        draw().savefig(content, format=kind, dpi=DPI, metadata=metadata, bbox_inches="tight")
    return content.getvalue()


def _confusion(final: FinalResult) -> Figure:
    confusion_KK, names = final.confusion_KK, final.view.dataset.class_names
    classes = len(names)
    side = 3 + 0.42 * min(classes, MOST_NUMBERS)
    picture = Figure(figsize=(side, side), layout="constrained")
    axes = picture.add_subplot()
    strength_KK = np.sqrt(row_shares(confusion_KK))  # so that errors show beside the diagonal
    axes.imshow(strength_KK, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(f"Confusion matrix\n{fitted(tested_on(final), MOST_TITLE)}", fontsize=10)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    labels = [fitted(name) for name in names]
    size = 8 if classes <= MOST_NUMBERS else 4
    axes.set_xticks(range(classes), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(classes), labels, fontsize=size)
    if classes <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(confusion_KK):
            if count:
                colour = "white" if strength_KK[row, column] > 0.6 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, size=7)
    return picture


def _curves(final: FinalResult) -> Figure:
    picture = Figure(figsize=(8, 3.4), layout="constrained")
    curve, best = final.trial.curve, final.trial.best
    assert best is not None
    epochs = [row.epoch for row in curve]
    for axes, what, factor in zip(picture.subplots(1, 2), ("loss", "error"), (1, 100), strict=True):
        for name, shown, look in (
            ("train", "training", {"color": BLUE, "linestyle": "--"}),
            ("validation", "validation", {"color": VERMILION}),
        ):
            values = [factor * getattr(row, f"{name}_{what}") for row in curve]
            axes.plot(epochs, values, label=f"trial {final.trial.number}: {shown}", **look)
        for rank, run in enumerate(final.runs):
            values = [factor * getattr(epoch, f"train_{what}") for epoch in run.curve]
            label = "final runs: training" if rank == 0 else None
            axes.plot([e.epoch for e in run.curve], values, color=GREY, lw=0.8, label=label)
        axes.plot(
            best.epoch,
            factor * getattr(best, f"validation_{what}"),
            "o",
            mfc="none",
            color=VERMILION,
            label=f"best epoch: {best.epoch}",
        )
        axes.set_xlabel("epoch")
        axes.set_ylabel("error (%)" if what == "error" else "loss (cross entropy, nats)")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)
    picture.suptitle(
        f"{fitted(data_in_words(final.view), MOST_TITLE)}, one run; final runs: "
        f"{len(final.runs)} on {grouped(final.training_count)} images",
        fontsize=9,
    )
    return picture


def _kernels(final: FinalResult) -> Figure:
    assert final.kernels is not None
    grid, owners = kernel_grid(final.kernels)
    limit = largest_weight(final.kernels)
    height, width = grid.shape
    picture = Figure(figsize=(7, 1.4 + 6 * height / width), layout="constrained")
    axes = picture.add_subplot()
    shown = axes.imshow(grid, cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set(facecolor=GAP_COLOUR, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"The {len(final.kernels)} first-layer kernels, {_network(final)}; "
        f"{fitted(final.view.dataset.title)}",
        fontsize=10,
    )
    picture.colorbar(shown, ax=axes, label="weight", shrink=0.8)
    if final.kernel_report is not None:
        for number, mark in final.kernel_report.marks.items():
            top, left, bottom, right = extent(owners, number)
            frame = Rectangle(
                (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec=VERMILION, lw=2
            )
            axes.add_patch(frame)
            axes.text(left - 0.4, top - 0.4, f"{number} {mark}", color=VERMILION, size=6, va="top",
                      bbox={"fc": "white", "ec": "none", "pad": 0.4, "alpha": 0.8})  # fmt: skip
        axes.set_xlabel(textwrap.fill(final.kernel_report.in_words(), 130), fontsize=6)
    return picture


def _mistakes(final: FinalResult) -> Figure:
    title = f"{fitted(final.view.dataset.title)}: the surest mistakes on test, {_network(final)}"
    return draw_mistakes(final.mistakes, final.view.dataset.class_names, title)


def _features(final: FinalResult) -> Figure:
    assert final.features is not None
    title = f"{fitted(final.view.dataset.title)}: feature maps, {_network(final)}"
    return draw_feature_maps(final.features, title)


def _network(final: FinalResult) -> str:
    return f"trial {final.trial.number}, seed {final.runs[0].seed}"
