"""What `finalize` found out, and what is counted from it.

K classes; a confusion matrix holds images, rows by their true class, columns by the predicted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import combinations
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.summary import LayerRow
from search.analysis.inside import FeatureMaps, Mistake
from search.analysis.measures import Accuracy, accuracy_of
from search.analysis.wording import spread
from search.spec.objectives import CALIBRATED_LOSS
from search.store.views import StudyView, TrialView
from search.training.epoch import Calibration, Epoch, Score
from search.training.metrics import CALIBRATION_BINS


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """The winner trained once more, on training and validation images together.

    Attributes:
        curve: its epochs. Their validation figures mean nothing here, since those images were
            trained on; they are not shown.
        training: score on all images that it was trained on, in evaluation mode.
        test: score on the test images.
        calibration: on the test images, with the result's temperature.
        seconds: spent on training.
    """

    seed: int
    curve: tuple[Epoch, ...]
    training: Score
    test: Score
    calibration: Calibration
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FinalResult:
    """Everything that finalize's page, pictures, metrics and summary are made from.

    Attributes:
        view: the study as it was before this: `view.results` are the earlier test evaluations,
            about which people are warned.
        trial: the winner.
        epochs: how many each run was trained.
        layers: of the winner's network.
        runs: one for each seed, in order; the first one's weights are kept.
        training_count, test_count: images that the runs were trained on and tested on.
        opened_at: when the test set was opened.
        confusion_KK: counts on the test set, added up over the runs: its sum is runs x test_count.
        kernels: weights of the first convolution of the first run, float, of shape (C_out, C_in,
            height, width); None where there is none.
        hardware, versions: of this process.
        temperature: fitted on the trial's validation images; 1: none.
        why: how the trial was chosen, where it is not simply the study's best; else empty.
        evaluation: the number of this test evaluation among the study's, from 1.
        fingerprint: of the data set's content.
        features: of the first run's network; None where it has no convolutions.
        mistakes: of the first run, for each of the most confused pairs of classes.
    """

    view: StudyView
    trial: TrialView
    epochs: int
    layers: tuple[LayerRow, ...]
    runs: tuple[SeedRun, ...]
    training_count: int
    test_count: int
    opened_at: datetime
    confusion_KK: NDArray[np.int64]
    kernels: NDArray[np.float32] | None
    hardware: str
    versions: Mapping[str, str]
    temperature: float = 1.0
    why: str = ""
    evaluation: int = 1
    fingerprint: str | None = None
    features: FeatureMaps | None = None
    mistakes: tuple[tuple[Mistake, ...], ...] = ()

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)


class ConfusedPair(NamedTuple):
    """Two classes, and how many images of each were taken for the other."""

    first: str
    second: str
    first_as_second: int
    second_as_first: int

    @property
    def total(self) -> int:
        return self.first_as_second + self.second_as_first


class ClassResult(NamedTuple):
    """images: of the class in the test set; accuracy: over the runs, None without any image."""

    name: str
    images: int
    accuracy: float | None


def most_confused(
    confusion_KK: NDArray[np.int64], class_names: Sequence[str], n: int = 5
) -> list[ConfusedPair]:
    """The n unordered pairs of classes with most mistakes between them, most first.

    Within a pair the class that is mistaken more often stands first. Pairs without a mistake are
    left out.
    """
    pairs = []
    for i, j in combinations(range(len(class_names)), 2):
        a, b = (i, j) if confusion_KK[i, j] > confusion_KK[j, i] else (j, i)
        counts = int(confusion_KK[a, b]), int(confusion_KK[b, a])
        pairs.append(ConfusedPair(class_names[a], class_names[b], *counts))
    mistaken = [pair for pair in pairs if pair.total > 0]
    return sorted(mistaken, key=lambda pair: -pair.total)[:n]


def test_accuracy(final: FinalResult) -> Accuracy:
    return accuracy_of([run.test.error for run in final.runs], final.test_count)


def by_class(final: FinalResult) -> list[ClassResult]:
    """How each class does on the test set, in the order of their labels."""
    totals_K = final.confusion_KK.sum(axis=1).tolist()
    right_K = final.confusion_KK.diagonal().tolist()
    names = final.view.dataset.class_names
    return [
        ClassResult(name, total // len(final.runs), right / total if total else None)
        for name, right, total in zip(names, right_K, totals_K, strict=True)
    ]


def figures_on_test(final: FinalResult) -> dict[str, Any]:
    """The test set's part of `metrics.json`, and what is recorded of the evaluation.

    Means over the seeds; `std` and `loss_std` are sample standard deviations over them, null for
    one seed. `uncertainty` names both of what makes the accuracy uncertain.
    """
    scores = [run.test for run in final.runs]
    return {
        "accuracy": mean(score.accuracy for score in scores),
        "error": mean(score.error for score in scores),
        "loss": mean(score.loss for score in scores),
        "std": spread([score.accuracy for score in scores]),
        "loss_std": spread([score.loss for score in scores]),
        "seeds": len(final.runs),
        "images": final.test_count,
        "uncertainty": test_accuracy(final).to_dict(),
        "chosen": final.why or "the study's best",
        "calibration": {
            "temperature": final.temperature,
            **{name: mean(values) for name, values in calibrations(final).items()},
            "bins": CALIBRATION_BINS,
        },
        "per_seed": [
            {**_of_seed(run.seed, run.test), "calibration": asdict(run.calibration)}
            for run in final.runs
        ],
    }


def calibrations(final: FinalResult) -> dict[str, list[float]]:
    """Each of the calibration's numbers on the test set, over the runs."""
    found = [asdict(run.calibration) for run in final.runs]
    return {name: [each[name] for each in found] for name in found[0]}


def metrics(final: FinalResult) -> dict[str, Any]:
    """The content of `metrics.json`. Losses are in nats, accuracies and errors in [0, 1]."""
    best = final.trial.best
    assert best is not None
    images = final.view.dataset.validation_count
    return {
        "study": final.view.name,
        "trial": final.trial.number,
        "chosen": final.why or "the study's best",
        "dataset": final.view.dataset.name,
        "test": figures_on_test(final),
        "training": {
            "images": final.training_count,
            "per_seed": [_of_seed(run.seed, run.training) for run in final.runs],
        },
        "validation": {
            "accuracy": 1 - best.validation_error,
            "error": best.validation_error,
            "loss": best.validation_loss,
            "calibrated_loss": best.metrics.get(CALIBRATED_LOSS),
            "images": images,
            "seeds": 1,
            "uncertainty": accuracy_of([best.validation_error], images).to_dict(),
        },
        "confusion": final.confusion_KK.tolist(),
        "class_names": list(final.view.dataset.class_names),
        "per_class": [one._asdict() for one in by_class(final)],
        "temperature": final.temperature,
        "parameters": final.parameters,
        "epochs": final.epochs,
        "kernels": None,  # what an earlier version said of them
        "seconds": [run.seconds for run in final.runs],
        "opened_at": final.opened_at.isoformat(timespec="seconds"),
        "evaluation": final.evaluation,
        "fingerprint": final.fingerprint,
        "hardware": final.hardware,
        "versions": dict(final.versions),
    }


def _of_seed(seed: int, score: Score) -> dict[str, float]:
    return {"seed": seed, "accuracy": score.accuracy, "error": score.error, "loss": score.loss}
