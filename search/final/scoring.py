"""The test evaluation, the one place that reads test images: put on record first, then scored.

K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors

from data.datasets import has_same_test, load_test
from data.errors import DataError
from data.folders.preparation import Reading
from search.analysis.final_result import FinalResult, SeedRun, figures_on_test
from search.analysis.inside import Mistake, collect_mistakes
from search.store.database import Database
from search.store.records import ResultRow, add_result, results_of
from search.store.studies import StudyHandle
from search.training.bundle import Bundle
from search.training.epoch import Calibration, Score
from search.training.metrics import calibration
from search.training.repeat import TrainedRun
from search.training.task import Task, confusion, logits, score


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """confusion_KK: counts of all runs; mistakes: the first run's."""

    runs: tuple[SeedRun, ...]
    images: int
    confusion_KK: NDArray[np.int64]
    mistakes: tuple[tuple[Mistake, ...], ...]


def require_same_test(task: Task, data_dir: Path, reading: Reading) -> None:
    """Raises DataError where the test images are others than when `task` was loaded."""
    if not has_same_test(task.info, data_dir, version=reading.version):
        raise DataError(
            f"the classes or the test images of {task.info.name} were changed meanwhile; put them "
            "back, and the same command goes on"
        )


def begin_evaluation(
    db: Database, study: StudyHandle, task: Task, runs: Sequence[TrainedRun], *, trial_number: int
) -> tuple[ResultRow, tuple[ResultRow, ...]]:
    """Put it on record; of weights that were evaluated before, the record that there is.

    Returns:
        the record, without metrics if scoring has not ended yet, and the study's earlier ones.

    From here on a process that is killed has perhaps seen the test set; the same command then
    takes up this record again, as it gets to the same weights.
    """
    content = None if task.content is None else task.content.digest
    weights = [[run.seed, hashlib.sha256(to_safetensors(run.weights)).hexdigest()] for run in runs]
    identity = json.dumps([study.name, content, weights])
    result_id = add_result(
        db,
        study_name=study.name,
        trial_number=trial_number,
        seeds=[run.seed for run in runs],
        result_id=hashlib.sha256(identity.encode()).hexdigest()[:32],
        study_id=study.study_id,
    )
    rows = results_of(db, study.name)
    index = next(index for index, row in enumerate(rows) if row.result_id == result_id)
    return rows[index], tuple(rows[:index])


def test(
    runs: Sequence[TrainedRun], bundle: Bundle, task: Task, data_dir: Path, reading: Reading
) -> Tested:
    """Score every run on the test set."""
    examples = load_test(task.info.name, data_dir, reading=reading).to(task.device)
    labels_N = examples.labels_N.cpu().numpy()
    counts_KK = np.zeros((task.classes, task.classes), dtype=np.int64)
    model = bundle.network().to(task.device)
    scored, all_logits = [], []
    for run in runs:
        model.load_state_dict(run.weights)
        logits_NK = logits(model, examples.images_NCHW, task.mean_C, task.std_C)
        counts_KK += confusion(logits_NK, examples.labels_N).cpu().numpy()
        all_logits.append(logits_NK)
        scored.append(
            SeedRun(
                seed=run.seed,
                curve=run.curve,
                training=run.training,
                test=score(logits_NK, examples.labels_N),
                calibration=calibration(logits_NK, examples.labels_N, bundle.temperature),
                seconds=sum(epoch.seconds for epoch in run.curve),
            )
        )
    mistakes = collect_mistakes(
        examples.images_NCHW.cpu().numpy(),
        labels_N,
        (all_logits[0] / bundle.temperature).softmax(1).cpu().numpy(),
        counts_KK,
    )
    return Tested(
        runs=tuple(scored), images=len(examples), confusion_KK=counts_KK, mistakes=mistakes
    )


def to_record(result: FinalResult) -> dict[str, Any]:
    """What is kept in the database of an evaluation: enough to write its `metrics.json` anew."""
    return {**figures_on_test(result), "confusion": result.confusion_KK.tolist()}


def as_recorded(tested: Tested, recorded: Mapping[str, Any]) -> Tested:
    """The same with the numbers that are on record, whatever scoring once more gave."""
    runs = []
    for run, found in zip(tested.runs, recorded["per_seed"], strict=True):
        assert run.seed == found["seed"]
        run = replace(run, test=Score(loss=found["loss"], error=found["error"]))
        if "calibration" in found:  # an earlier version recorded none
            run = replace(run, calibration=Calibration(**found["calibration"]))
        runs.append(run)
    return replace(
        tested,
        runs=tuple(runs),
        confusion_KK=np.array(recorded["confusion"], dtype=np.int64),
    )
