"""A contact sheet: every picture as the network saw it, with what it made of it."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from io import BytesIO

import matplotlib as mpl
from matplotlib.figure import Figure

from search.analysis.wording import fitted, percent, printable
from search.figures.images import as_rgb
from search.training.bundle import Bundle, Prediction

MOST = 200  # pictures on one sheet
DPI = 120
CELL_WIDTH, PICTURE_HEIGHT, TEXT_HEIGHT = 1.7, 1.3, 0.95  # inches
LETTERS = 30  # in a line of text below a picture
NOTE_LINES = 3


def contact_sheet(bundle: Bundle, predictions: Sequence[Prediction]) -> bytes:
    """PNG of the first `MOST` predictions, in their order: file, label, probability, treatment."""
    shown = predictions[:MOST]
    columns = min(len(shown), max(4, math.ceil(math.sqrt(1.5 * len(shown)))))
    rows = math.ceil(len(shown) / columns)
    tall = PICTURE_HEIGHT + TEXT_HEIGHT
    # A title needs the room of four cells; without axes and ticks, one drawing holds all pictures.
    width = max(columns, 4) * CELL_WIDTH
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        sheet = Figure(figsize=(width, rows * tall + 0.5), facecolor="white")
        axes = sheet.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(rows * tall + 0.5, 0))
        axes.set_axis_off()
        axes.text(0.1, 0.3, _title(bundle, len(shown), len(predictions)), fontsize=9, va="center")
        for index, prediction in enumerate(shown):
            left, top = index % columns * CELL_WIDTH, 0.5 + index // columns * tall
            middle, half = left + CELL_WIDTH / 2, PICTURE_HEIGHT / 2 - 0.05
            axes.imshow(
                as_rgb(prediction.image_CHW.numpy()),
                extent=(middle - half, middle + half, top + 2 * half, top),
                interpolation="nearest",
                aspect="auto",
            )
            name, share = bundle.class_names[prediction.label], prediction.probability
            axes.text(middle, top + 2 * half + 0.12, f"{fitted(name)}  {percent(share, 1)}",
                      ha="center", va="center", fontsize=8, weight="bold")  # fmt: skip
            below = [fitted(prediction.path.name, LETTERS), *_wrapped(prediction.notes)]
            axes.text(middle, top + 2 * half + 0.22, "\n".join(below), ha="center", va="top",
                      fontsize=5.5, color="#444444", linespacing=1.2)  # fmt: skip
        axes.set(xlim=(0, width), ylim=(rows * tall + 0.5, 0))
        content = BytesIO()
        sheet.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    return content.getvalue()


def _title(bundle: Bundle, shown: int, all_: int) -> str:
    of = f"{shown}" if shown == all_ else f"the first {shown} of {all_}"
    return (
        f"{of} {'picture' if all_ == 1 else 'pictures'} as the network saw them; trial "
        f"{bundle.trial} of study {bundle.study}, seed {bundle.seed}"
    )


def _wrapped(notes: Sequence[str]) -> list[str]:
    return textwrap.wrap(
        printable("; ".join(notes)), LETTERS + 4, max_lines=NOTE_LINES, placeholder=" …"
    )
