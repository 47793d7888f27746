"""One trial's pictures: its learning curves, and what it confuses on the validation images.

Drawn with matplotlib's figure objects alone, on white ground, each within about 0.1 s of one core
and 25 kB: there may be thousands.
"""

from __future__ import annotations

import math
import warnings
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from search.analysis.wording import data_in_words, fitted, grouped, percent
from search.figures.figures_final import MOST_NUMBERS, row_shares
from search.figures.style import BLUE, VERMILION
from search.spec.recipe import EARLY_LOOK
from search.store.views import StudyView, TrialView

DPI = 100
MOST_TITLE = 90  # characters
_SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,  # a class may be called $x$
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9.0,
    "legend.frameon": False,
}


def curves_png(view: StudyView, trial: TrialView) -> bytes:
    """Loss and error by epoch, on training and on validation images; the best epoch is marked."""
    with mpl.rc_context(_SETTINGS):
        picture = Figure(figsize=(8, 3.2), dpi=DPI)
        for axes, what in zip(picture.subplots(1, 2), ("loss", "error"), strict=True):
            _draw_curves(axes, trial, what)
        picture.suptitle(f"Trial {trial.number} ({trial.state}): {_data(view)}", fontsize=10)
        picture.subplots_adjust(left=0.08, right=0.98, top=0.84, bottom=0.15, wspace=0.22)
        return _png(picture)


def _draw_curves(axes: Axes, trial: TrialView, what: str) -> None:
    factor = 100 if what == "error" else 1
    for part, name, colour, dash in (
        ("train", "training (augmented, with dropout)", BLUE, "--"),
        ("validation", "validation", VERMILION, "-"),
    ):
        values = [factor * getattr(row, f"{part}_{what}") for row in trial.reports]
        finite = [value if math.isfinite(value) else math.nan for value in values]
        epochs = [row.epoch or EARLY_LOOK for row in trial.reports]
        axes.plot(epochs, finite, dash, color=colour, marker=".", label=name)
    best = trial.best
    if best is not None:
        value = factor * getattr(best, f"validation_{what}")
        words = percent(value / 100) if what == "error" else f"{value:.4f}"
        axes.plot(
            best.epoch,
            value,
            "o",
            mfc="none",
            ms=9,
            color=VERMILION,
            label=f"epoch {best.epoch}, the lowest loss: {words}",
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("error (%)" if what == "error" else "loss (cross entropy, nats)")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, max(row.epoch or 1 for row in trial.reports) + 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def confusion_png(view: StudyView, trial: TrialView, confusion_KK: NDArray[np.int64]) -> bytes:
    """Validation images by true and predicted class, after the trial's last epoch.

    Colour: square root of the row's share, so that errors show beside the diagonal.
    """
    names = [fitted(name) for name in view.dataset.class_names]
    numbered = len(names) <= MOST_NUMBERS
    with mpl.rc_context(_SETTINGS):
        inner = 2.4 + 0.32 * min(len(names), MOST_NUMBERS)
        # Of room: for the longest name and the title; many classes have numbers alone.
        beside = 0.55 + 0.066 * max(len(name) if numbered else 3 for name in names)
        width, height = inner + beside + 0.2, inner + beside + 0.8
        picture = Figure(figsize=(width, height), dpi=DPI)
        axes = picture.add_axes(
            (beside / width, beside / height, inner / width, inner / height),
            xlabel="predicted class",
            ylabel="true class",
        )
        strength_KK = np.sqrt(row_shares(confusion_KK))
        axes.imshow(strength_KK, cmap="Blues", vmin=0, vmax=1)
        if numbered:
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
            _write_counts(axes, confusion_KK, strength_KK)
        axes.set_title(
            f"Trial {trial.number} {_epoch_in_words(trial)}\n{_score(confusion_KK)}\n{_data(view)}",
            fontsize=9,
            x=0.5 - (beside - 0.2) / 2 / inner,  # the picture's middle
        )
        return _png(picture)


def _write_counts(
    axes: Axes, confusion_KK: NDArray[np.int64], strength_KK: NDArray[np.float64]
) -> None:
    """Zeros are left out: what is there stands out."""
    for (row, column), count in np.ndenumerate(confusion_KK):
        if count:
            colour = "white" if strength_KK[row, column] > 0.6 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=7)


def _epoch_in_words(trial: TrialView) -> str:
    last = max(row.epoch for row in trial.reports)
    best = last if trial.best is None else trial.best.epoch
    other = "" if best == last else f", its last; its loss was lowest after {best}"
    return f"after epoch {last}{other}"


def _score(confusion_KK: NDArray[np.int64]) -> str:
    right, all_ = int(np.trace(confusion_KK)), int(confusion_KK.sum())
    return f"{grouped(right)} of {grouped(all_)} validation images right"


def _data(view: StudyView) -> str:
    return f"{fitted(data_in_words(view), MOST_TITLE)}; one run"


def _png(picture: Figure) -> bytes:
    """In 256 colours, half the size."""
    drawn, content = BytesIO(), BytesIO()
    with warnings.catch_warnings():
        # A script that the bundled font lacks gives boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        picture.savefig(drawn, format="png", pil_kwargs={"compress_level": 1})
    with Image.open(drawn) as coloured:
        few = coloured.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
    few.save(content, format="png")
    return content.getvalue()
