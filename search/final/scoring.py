"""The test evaluation, the only place that scores test images: recorded first, then scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors.torch import save as to_safetensors

from data.datasets import find_dataset, load_test
from data.errors import DataError
from data.fingerprint import content_digest, count_shared
from search.analysis.final_result import SeedRun, collect_mistakes
from search.store.records import ResultRow, add_result, results_of
from search.store.studies import StudyHandle
from search.store.views import TrialView
from search.training.bundle import Bundle
from search.training.epoch import Score
from search.training.metrics import CALIBRATION_BINS, calibration_error, loss_at, reliability
from search.training.repeat import Job, TrainedRun
from search.training.task import Task, confusion, logits, score


def begin_evaluation(
    study: StudyHandle, trial: TrialView, job: Job, task: Task, runs: Sequence[TrainedRun]
) -> tuple[ResultRow, tuple[ResultRow, ...]]:
    """Record a test evaluation; for weights that were evaluated before, find the existing record.

    A process that is killed after this may have seen the test set; the same command then finds
    this record again, because it arrives at the same weights. Returns the record, without metrics
    if scoring has not ended yet, and the study's earlier ones. Raises DataError if the test images
    have changed since `task` was loaded.
    """
    if not find_dataset(task.info.name, job.spec.reading).has_same_test(task.info, job.data_dir):
        raise DataError(
            f"the classes or the test images of {task.info.name} were changed meanwhile; restore "
            "them and run the same command again to resume"
        )
    content = None if task.content is None else task.content.digest
    weights = [[run.seed, hashlib.sha256(to_safetensors(run.weights)).hexdigest()] for run in runs]
    identity = json.dumps([study.name, content, weights])
    result_id = hashlib.sha256(identity.encode()).hexdigest()[:32]
    seeds = [run.seed for run in runs]
    add_result(study, trial_number=trial.number, seeds=seeds, result_id=result_id)
    rows = results_of(study)
    index = [row.result_id for row in rows].index(result_id)
    return rows[index], tuple(rows[:index])


def test(
    job: Job,
    task: Task,
    runs: Sequence[TrainedRun],
    bundle: Bundle,
    recorded: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Score every run on the test set; returns `runs` and other fields of `FinalResult`.

    Results that are already `recorded` stand, whatever scoring again gives. Raises DataError if
    they are of other test images.
    """
    examples = load_test(task.info.name, job.data_dir, reading=job.spec.reading)
    digest = content_digest(examples)
    if recorded is not None:
        # Earlier versions recorded only how many images there were.
        found = {"images": len(examples), "digest": digest}
        if any(recorded.get(name, value) != value for name, value in found.items()):
            raise DataError(
                f"the test images of {task.info.name} ({len(examples)}) are not those that these "
                f"networks were tested on before ({recorded['images']}); restore them and run the "
                "same command again"
            )
    examples = examples.to(task.device)
    counts_KK = np.zeros((task.classes, task.classes), dtype=np.int64)
    model = bundle.network().to(task.device)
    scored, bins_2B3 = list[SeedRun](), np.zeros((2, CALIBRATION_BINS, 3))
    for run in runs:
        model.load_state_dict(run.weights)
        logits_NK = logits(model, examples.images_NCHW, task.mean_C, task.std_C)
        counts_KK += confusion(logits_NK, examples.labels_N).cpu().numpy()
        if not scored:
            first_NK = logits_NK  # of the others they are not kept: they may take gigabytes
        before_B3, after_B3 = (
            reliability((logits_NK / divisor).softmax(1), examples.labels_N).cpu()
            for divisor in (1, bundle.temperature)
        )
        bins_2B3 += np.stack((before_B3, after_B3))
        tested = score(logits_NK, examples.labels_N)
        calibrated = {  # in nats; in [0, 1] without the temperature and with it
            "loss": float(loss_at(logits_NK, examples.labels_N, bundle.temperature)),
            "error_before": calibration_error(before_B3),
            "error_after": calibration_error(after_B3),
        }
        if recorded is not None:
            stored = recorded["per_seed"][len(scored)]
            tested = Score(loss=stored["loss"], error=stored["error"])
            calibrated = stored.get("calibration", calibrated)  # earlier versions kept none
        scored.append(
            SeedRun(
                seed=run.seed,
                curve=run.curve,
                training=run.training,
                test=tested,
                calibration=calibrated,
                seconds=sum(epoch.seconds for epoch in run.curve),
            )
        )
    if recorded is not None:
        counts_KK = np.array(recorded["confusion"], dtype=np.int64)
    mistakes = collect_mistakes(
        examples.images_NCHW.cpu().numpy(),
        examples.labels_N.cpu().numpy(),
        (first_NK / bundle.temperature).softmax(1).cpu().numpy(),
        counts_KK,
    )
    return {
        "runs": tuple(scored),
        "test_count": len(examples),
        "shared": count_shared(examples, task.training),
        "test_digest": digest,
        "confusion_KK": counts_KK,
        "mistakes": mistakes,
        "reliability": bins_2B3,
    }
