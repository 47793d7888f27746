"""The results of `finalize`: scores, mistakes, a look inside the network, and the metrics.

N images, C channels, H x W pixels, K classes; a confusion matrix counts images, with true classes
in rows and predicted ones in columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.errors import grouped
from models.summary import LayerRow
from search.analysis.candidates import Candidate, candidates_to_dict
from search.analysis.measures import Accuracy, accuracy_of
from search.analysis.wording import counted, printable, spread
from search.spec.objectives import CALIBRATED_LOSS
from search.store.views import StudyView, TrialView
from search.training.epoch import Epoch, Score
from search.training.metrics import CALIBRATION_BINS

STUDYS_BEST = "the study's best"  # how the trial was chosen, where nothing else is said
PAIRS, EACH = 5, 8  # pairs of classes whose mistakes are shown, and examples of each


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedRun:
    """The winner retrained on training and validation images together.

    The validation values of its curve mean nothing, because those images were trained on.
    """

    seed: int
    curve: tuple[Epoch, ...]
    training: Score  # on all images that it was trained on, in evaluation mode
    test: Score
    calibration: Mapping[str, float]  # on the test images, see `search.final.scoring`
    seconds: float  # spent on training


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureMaps:
    """The activations of one image inside a network."""

    image_CHW: NDArray[np.uint8]
    what: str  # the image in words
    stages: Mapping[str, NDArray[np.float32]]  # the output of each, (C, H, W), in execution order


class Mistake(NamedTuple):
    """A misclassified test image; the probability is that of the predicted class."""

    image_CHW: NDArray[np.uint8]
    true: int
    predicted: int
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FinalResult:
    """Everything that finalize's page, pictures, metrics and summary are made from.

    Attributes:
        view: the study before this evaluation: `view.results` are the earlier ones.
        kernels: weights of the first run's first convolution, of shape (C_out, C_in, height,
            width); None if there is none, likewise `features`.
        mistakes: of the first run, for each of the most confused pairs of classes.
        reliability: `search.training.metrics.reliability` of the test set, summed over the runs,
            without the temperature and with it: (2, CALIBRATION_BINS, 3).
    """

    view: StudyView
    trial: TrialView  # the winner
    epochs: int  # of each run
    layers: tuple[LayerRow, ...]
    runs: tuple[SeedRun, ...]  # one for each seed, in order; the first one's weights are kept
    training_count: int  # images that each run was trained on
    test_count: int
    opened_at: datetime
    confusion_KK: NDArray[np.int64]  # summed over the runs
    kernels: NDArray[np.float32] | None
    hardware: str
    versions: Mapping[str, str]
    temperature: float = 1.0  # fitted on the trial's validation images; 1: none
    why: str = ""  # how the trial was chosen, if it is not simply the study's best
    candidates: tuple[Candidate, ...] = ()  # that it was chosen among, with fresh seeds
    requested_epochs: int | None = None  # given to finalize or by the study; None: by neither
    evaluation: int = 1  # number of this test evaluation in the study, from 1
    fingerprint: str | None = None  # of the data set's content
    test_digest: str | None = None  # of the test images and labels
    shared: int = 0  # test images that are training images, too
    features: FeatureMaps | None = None
    mistakes: tuple[tuple[Mistake, ...], ...] = ()
    reliability: NDArray[np.float64] | None = None

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def is_best(self) -> bool:
        """Whether the trial is the study's best, which later trials may have changed."""
        return self.view.best is not None and self.view.best.number == self.trial.number

    @property
    def accuracy(self) -> Accuracy:
        """On the test set, over the runs."""
        return accuracy_of([run.test.error for run in self.runs], self.test_count)


def confused_pairs(confusion_KK: NDArray[np.int64], n: int) -> list[tuple[int, int]]:
    """Labels of the n unordered pairs of classes with most mistakes between them, most first.

    Within a pair, the class that is mistaken more often comes first. Pairs without mistakes are
    left out.
    """
    both_KK = np.triu(confusion_KK + confusion_KK.T, 1)
    order = np.argsort(-both_KK, axis=None, kind="stable")[:n]
    places = np.array(np.unravel_index(order, both_KK.shape)).T.tolist()
    pairs = [(i, j) for i, j in places if both_KK[i, j]]
    return [(i, j) if confusion_KK[i, j] > confusion_KK[j, i] else (j, i) for i, j in pairs]


def collect_mistakes(
    images_NCHW: NDArray[np.uint8],
    labels_N: NDArray[np.int64],
    shares_NK: NDArray[np.float32],
    confusion_KK: NDArray[np.int64],
) -> tuple[tuple[Mistake, ...], ...]:
    """For each of the most confused pairs, its most confident mistakes in both directions.

    Args:
        shares_NK: probabilities from one run.
        confusion_KK: of all runs; decides which pairs are the most confused.
    """
    predicted_N, sure_N = shares_NK.argmax(1), shares_NK.max(1)
    found = []
    for pair in confused_pairs(confusion_KK, PAIRS):
        of_pair_N = np.isin(labels_N, pair) & np.isin(predicted_N, pair)
        numbers = np.flatnonzero(of_pair_N & (labels_N != predicted_N))
        surest = numbers[np.argsort(-sure_N[numbers], kind="stable")][:EACH]
        of_N = images_NCHW, labels_N.tolist(), predicted_N.tolist(), sure_N.tolist()
        found.append(tuple(Mistake(*(values[n] for values in of_N)) for n in surest))
    return tuple(filter(None, found))


def by_class(final: FinalResult) -> list[dict[str, Any]]:
    """Name, test images, accuracy (its recall), precision and F1 score of each class, in label
    order. All are over the runs; None if there is nothing to divide by."""
    counts_KK, names, runs = final.confusion_KK, final.view.dataset.class_names, len(final.runs)
    right_K, actual_K, predicted_K = counts_KK.diagonal(), counts_KK.sum(1), counts_KK.sum(0)
    of_K = zip(names, right_K.tolist(), actual_K.tolist(), predicted_K.tolist(), strict=True)
    return [
        {
            "name": name,
            "images": actual // runs,
            "accuracy": right / actual if actual else None,
            "precision": right / predicted if predicted else None,
            "f1": 2 * right / (actual + predicted) if actual else None,
        }
        for name, right, actual, predicted in of_K
    ]


def figures_on_test(final: FinalResult) -> dict[str, Any]:
    """The test set's part of `metrics.json`, which is also recorded with the evaluation.

    Means and sample standard deviations over the seeds; the latter are null for one seed.
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
        "shared_with_training": final.shared,
        "digest": final.test_digest,
        "uncertainty": final.accuracy.to_dict(),
        "chosen": final.why or STUDYS_BEST,
        "calibration": {
            "temperature": final.temperature,
            **{name: mean(values) for name, values in calibrations(final).items()},
            "bins": CALIBRATION_BINS,
        },
        "per_seed": [
            {**_of_seed(run.seed, run.test), "calibration": dict(run.calibration)}
            for run in final.runs
        ],
    }


def calibrations(final: FinalResult) -> dict[str, list[float]]:
    """Each calibration metric on the test set, one value per run."""
    return {
        name: [run.calibration[name] for run in final.runs] for name in final.runs[0].calibration
    }


def metrics(final: FinalResult) -> dict[str, Any]:
    """The content of `metrics.json`. Losses are in nats, accuracies and errors in [0, 1]."""
    best = final.trial.best
    assert best is not None
    images = final.view.dataset.validation_count
    return {
        "study": final.view.name,
        "trial": final.trial.number,
        "params": final.trial.values,  # as searched; `chosen` says what differs in the final runs
        "chosen": final.why or STUDYS_BEST,
        "candidates": candidates_to_dict(final.candidates, final.view.spec.objective),
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
        "per_class": by_class(final),
        "temperature": final.temperature,
        "parameters": final.parameters,
        "epochs": final.epochs,
        "requested_epochs": final.requested_epochs,
        "kernels": None,  # earlier versions described them here
        "seconds": [run.seconds for run in final.runs],
        "opened_at": final.opened_at.isoformat(timespec="seconds"),
        "evaluation": final.evaluation,
        "fingerprint": final.fingerprint,
        "hardware": final.hardware,
        "versions": dict(final.versions),
    }


def _of_seed(seed: int, score: Score) -> dict[str, float]:
    return {"seed": seed, "accuracy": score.accuracy, "error": score.error, "loss": score.loss}


def tested_on(final: FinalResult) -> str:
    """`Fashion-MNIST, 10 000 test images × 3 runs`; not escaped."""
    runs = counted(len(final.runs), "run")
    title = printable(final.view.dataset.title)
    return f"{title}, {grouped(final.test_count)} test images × {runs}"
