"""Finalize's page and its summary for the terminal, filled with the same values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import plotly.graph_objects as go
from matplotlib.figure import Figure

from data.datasets import DATASETS
from data.errors import grouped
from search.analysis.final_result import FinalResult, by_class, calibrations, confused_pairs
from search.analysis.measures import MEASURES, sampling_error
from search.analysis.wording import counted, spread
from search.figures import FINAL_FIGURES, by_file_name
from search.figures.files import rendered
from search.pages.render import markdown, page, plain
from search.training.epoch import Score

PAIRS = 10


def final_page(final: FinalResult, pictures: Mapping[str, go.Figure | Figure]) -> str:
    """One offline HTML page with pictures from `final_pictures`."""
    figures = {
        name: picture if isinstance(picture, go.Figure) else rendered(picture, "png")
        for name, picture in pictures.items()
    }
    dataset = DATASETS.get(final.view.dataset.name)
    title = f"{final.view.dataset.title}: trial {final.trial.number} on the test set"
    text = markdown(
        "final.md",
        kind="png",
        registry=by_file_name(FINAL_FIGURES),
        figures=figures,
        means=_means,
        test_loss=_of_seeds([run.test.loss for run in final.runs], "loss"),
        options=_options(final),
        licence=dataset and dataset.licence,
        **_values(final),
    )
    return page(title, text, figures)


def final_text(final: FinalResult) -> str:
    """The summary for standard output: plain text, without markup or control characters."""
    return plain("final.txt", **_values(final))


def _values(final: FinalResult) -> dict[str, Any]:
    """What page and summary share."""
    return {
        "final": final,
        "view": final.view,
        "scores": _scores(final),
        "pairs": _confused(final),
        "calibrated": {
            name: _of_seeds(found, "loss" if name == "loss" else "error")
            for name, found in calibrations(final).items()
        },
        "untested": [one["name"] for one in by_class(final) if not one["images"]],
    }


def _of_seeds(found: Sequence[float], what: str) -> str:
    """`1.20 % ± 0.12 (3 seeds)`, the `loss` in nats."""
    measure = MEASURES[f"test_{what}"]
    return measure.shown(mean(found)) + measure.of_seeds(spread(found), len(found))


def _scores(final: FinalResult) -> list[tuple[str, ...]]:
    """Rows for training, validation and test: loss, error, accuracy, sampling error, images."""
    best, images = final.trial.best, final.view.dataset.validation_count
    assert best is not None
    runs, points = counted(len(final.runs), "run"), MEASURES["test_error"].bare
    validation = Score(loss=best.validation_loss, error=best.validation_error)
    training = _means([run.training for run in final.runs])
    test = _means([run.test for run in final.runs])
    of_trial = f"validation (the trial's run, epoch {best.epoch})"
    of_counting = points(sampling_error(validation.error, images))
    return [
        # Training images are not a sample of new data, so they have no sampling error.
        (f"training ({runs})", *training, "", grouped(final.training_count)),
        (of_trial, *_means([validation]), of_counting, grouped(images)),
        (f"test ({runs})", *test, points(final.accuracy.sampling_error), grouped(final.test_count)),
    ]


def _means(scores: Sequence[Score]) -> list[str]:
    """Loss in nats, error and accuracy in percent: means with their spread over the runs."""
    return [
        MEASURES[f"test_{name}"].mean_and_spread([getattr(score, name) for score in scores])
        for name in ("loss", "error", "accuracy")
    ]


def _confused(final: FinalResult) -> list[tuple[str, str, str]]:
    """(pair, mistakes between them, how many each way)."""
    found, names = [], final.view.dataset.class_names
    for i, j in confused_pairs(final.confusion_KK, PAIRS):
        one, other = int(final.confusion_KK[i, j]), int(final.confusion_KK[j, i])
        ways = f"{grouped(one)} × {names[i]} taken for {names[j]}, {grouped(other)} × the other way"
        found.append((f"{names[i]} / {names[j]}", grouped(one + other), ways))
    return found


def _options(final: FinalResult) -> list[str]:
    """The command's flags beyond study and database."""
    options = ["--seeds", str(len(final.runs))]
    if final.candidates:
        options += ["--candidates", str(len(final.candidates))]
        options += ["--candidate-seeds", str(len(final.candidates[0].values))]
    elif final.why or not final.is_best:
        options += ["--trial", str(final.trial.number)]
    if final.requested_epochs is not None:
        options += ["--epochs", str(final.requested_epochs)]
    return options
