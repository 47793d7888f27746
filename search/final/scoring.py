"""The test set's verdict: the one place that reads test images. K classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.datasets import load_test
from data.folders.preparation import Reading
from search.analysis.final_result import FinalResult, SeedRun, figures_on_test
from search.analysis.inside import Mistake, collect_mistakes
from search.training.bundle import Bundle
from search.training.epoch import Score
from search.training.repeat import TrainedRun
from search.training.task import Task, logits, score


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """confusion_KK: counts of all runs; mistakes: the first run's."""

    runs: tuple[SeedRun, ...]
    images: int
    confusion_KK: NDArray[np.int64]
    mistakes: tuple[tuple[Mistake, ...], ...]


def test(
    runs: Sequence[TrainedRun], bundle: Bundle, task: Task, data_dir: Path, reading: Reading
) -> Tested:
    """Score every run on the test set."""
    from sklearn.metrics import confusion_matrix  # a second to import

    examples = load_test(task.info.name, data_dir, reading=reading).to(task.device)
    labels_N = examples.labels_N.cpu().numpy()
    confusion_KK = np.zeros((task.classes, task.classes), dtype=np.int64)
    model = bundle.network().to(task.device)
    scored, all_logits = [], []
    for run in runs:
        model.load_state_dict(run.weights)
        logits_NK = logits(model, examples.images_NCHW, task.mean_C, task.std_C)
        predicted_N = logits_NK.argmax(1).cpu().numpy()
        confusion_KK += confusion_matrix(labels_N, predicted_N, labels=range(task.classes))
        all_logits.append(logits_NK)
        scored.append(
            SeedRun(
                seed=run.seed,
                curve=run.curve,
                training=run.training,
                test=score(logits_NK, examples.labels_N),
                seconds=sum(epoch.seconds for epoch in run.curve),
            )
        )
    mistakes = collect_mistakes(
        examples.images_NCHW.cpu().numpy(),
        labels_N,
        all_logits[0].softmax(1).cpu().numpy(),
        confusion_KK,
    )
    return Tested(
        runs=tuple(scored), images=len(examples), confusion_KK=confusion_KK, mistakes=mistakes
    )


def to_record(result: FinalResult) -> dict[str, Any]:
    """What is kept in the database of an evaluation: enough to write its `metrics.json` anew."""
    return {**figures_on_test(result), "confusion": result.confusion_KK.tolist()}


def as_recorded(tested: Tested, figures: Mapping[str, Any]) -> Tested:
    """The same with the numbers that are on record, whatever scoring once more gave."""
    of_seed = {
        each["seed"]: Score(loss=each["loss"], error=each["error"]) for each in figures["per_seed"]
    }
    return replace(
        tested,
        runs=tuple(replace(run, test=of_seed[run.seed]) for run in tested.runs),
        confusion_KK=np.array(figures["confusion"], dtype=np.int64),
    )
