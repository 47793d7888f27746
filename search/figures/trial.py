"""One trial's pictures in the dashboard: its learning curves, and what it confuses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from search.analysis.wording import grouped
from search.figures.files import drawn, rendered
from search.figures.final import confusion_matrix, loss_and_error
from search.figures.style import apply_style
from search.figures.values import in_figure
from search.store.records import EpochRow, best_epoch

NAMES = ("training (augmented, with dropout)", "validation")
DPI = 100


def trial_pictures(
    number: int,
    reports: Sequence[EpochRow],
    data: str,
    class_names: Sequence[str],
    confusion_KK: NDArray[np.int64] | None = None,
) -> dict[str, bytes]:
    """PNG of each picture by its file's name; none of a trial without a report.

    Args:
        number: the trial's.
        reports: its epochs in order, rung 0 first where there is one.
        data: data set and split in words, see `search.analysis.wording.data_in_words`.
        class_names: of the K classes.
        confusion_KK: validation images by true and predicted class after the last epoch.
    """
    if not reports:
        return {}
    last, best = reports[-1].epoch, best_epoch([row for row in reports if row.epoch])
    curves = loss_and_error(reports, best, NAMES)
    below = "" if best is None else f"<br>best after epoch {best.epoch} of {last}"
    apply_style(curves, f"{in_figure(data)}; one run{below}", f"Trial {number}")
    curves.update_layout(height=350)
    figures = {"learning curves": curves}
    if confusion_KK is not None:
        right, images = int(np.trace(confusion_KK)), int(confusion_KK.sum())
        score = f"{grouped(right)} of {grouped(images)} validation images right after epoch {last}"
        figures["confusion matrix"] = confusion_matrix(
            confusion_KK, class_names, f"Trial {number}, {score}\n{data}; one run"
        )
    return {
        f"{name}.png": rendered(partial(drawn, figure.to_dict()), "png", DPI)
        for name, figure in figures.items()
    }
