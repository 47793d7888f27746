"""Finalize's pictures as files, for papers and slides: PNG, and SVG whose text stays text.

Drawn with matplotlib's figure objects alone: no pyplot, no display.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from search.reporting.figures_final import (
    GAP_COLOUR,
    MOST_NUMBERS,
    fitted,
    kernel_grid,
    largest_weight,
    row_shares,
)
from search.reporting.final_result import FinalResult
from search.reporting.final_words import tested_on
from search.reporting.style import BLUE, GREY, VERMILION
from search.reporting.wording import data_in_words, grouped
from search.training.checkpoint import write_atomically

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
    """Write confusion matrix, training curves and, of a CNN, first-layer kernels into `folder`.

    Each on white ground, as PNG and as SVG, whole or not at all. Returns the files.
    """
    made = {"confusion": _confusion, "curves": _curves, "kernels": _kernels}
    if final.kernels is None:
        del made["kernels"]
    files = []
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # A script that the bundled font lacks gives boxes in the PNG; the SVG has the text.
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        for name, draw in made.items():
            picture = draw(final)
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                content = BytesIO()
                picture.savefig(
                    content, format=kind, dpi=DPI, metadata=metadata, bbox_inches="tight"
                )
                files.append(folder / f"{name}.{kind}")
                write_atomically(files[-1], content.getvalue())
    return files


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
            axes.plot([e.number for e in run.curve], values, color=GREY, lw=0.8, label=label)
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
    grid, _ = kernel_grid(final.kernels)
    limit = largest_weight(final.kernels)
    height, width = grid.shape
    picture = Figure(figsize=(7, 1 + 6 * height / width), layout="constrained")
    axes = picture.add_subplot()
    shown = axes.imshow(grid, cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set(facecolor=GAP_COLOUR, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(
        f"The {len(final.kernels)} first-layer kernels, seed {final.runs[0].seed}; "
        f"{fitted(final.view.dataset.title)}",
        fontsize=10,
    )
    picture.colorbar(shown, ax=axes, label="weight", shrink=0.8)
    return picture
