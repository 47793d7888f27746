"""A test evaluation: put on record before the test set is opened, once for each set of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save as to_safetensors

from data.datasets import has_same_test
from data.errors import DataError
from data.folders.preparation import Reading
from search.final.export import require_onnx
from search.running.study import check_count
from search.spec.domains import SpecError
from search.store import StorageError
from search.store.database import Database
from search.store.records import ResultRow, add_result, results_of
from search.store.studies import StudyHandle
from search.store.views import StudyView
from search.terminal.reproduce import command
from search.training.repeat import TrainedRun
from search.training.task import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One record.

    Attributes:
        number: of the study's evaluations, from 1, in the order in which they were begun.
        row: without figures if scoring has not ended yet.
        earlier: those begun before.
    """

    number: int
    row: ResultRow
    earlier: tuple[ResultRow, ...]


def check_arguments(seeds: int, trial: int | None, arm: str | None, export: str | None) -> None:
    """Raises SpecError, or BundleError where packages for the export are missing."""
    check_count("seeds", seeds)
    if trial is not None and arm is not None:
        raise SpecError("arm", f"either a trial or an arm, but got {trial=} and {arm=}")
    if export not in (None, "onnx"):
        raise SpecError("export", f"export must be 'onnx' or None, but got {export!r}")
    if export is not None:
        require_onnx()


def refuse_unfinished(view: StudyView) -> None:
    """Raises StorageError for a study that still lacks trials."""
    if view.finished < view.spec.trials:
        raise StorageError(
            f"study {view.name!r} has {view.finished} of its {view.spec.trials} trials, and only a "
            f"first test evaluation is unbiased: finish it with {command('study', view)}, or give "
            "--now to finalize it as it is"
        )


def require_same_test(task: Task, data_dir: Path, reading: Reading) -> None:
    """Raises DataError where the test images are others than when `task` was loaded."""
    if not has_same_test(task.info, data_dir, version=reading.version):
        raise DataError(
            f"the classes or the test images of {task.info.name} were changed meanwhile; put them "
            "back, and the same command goes on"
        )


def begin_evaluation(
    db: Database,
    study: StudyHandle,
    task: Task,
    runs: Sequence[TrainedRun],
    *,
    trial_number: int,
) -> Evaluation:
    """Put it on record; of weights that were evaluated before, the record that there is.

    From here on a process that is killed has perhaps seen the test set; the same command then
    takes up this record again, as it gets to the same weights.
    """
    seeds = [run.seed for run in runs]
    result_id = add_result(
        db,
        study_name=study.name,
        trial_number=trial_number,
        seeds=seeds,
        result_id=_identity(study.name, task, runs),
        study_id=study.study_id,
    )
    rows = results_of(db, study.name)
    index = next(index for index, row in enumerate(rows) if row.result_id == result_id)
    return Evaluation(number=index + 1, row=rows[index], earlier=tuple(rows[:index]))


def _identity(study_name: str, task: Task, runs: Sequence[TrainedRun]) -> str:
    """32 hexadecimal digits that follow from the weights and from what they are tested on."""
    content = task.content
    parts = [
        study_name,
        None if content is None else content.digest,
        [[run.seed, hashlib.sha256(to_safetensors(run.weights)).hexdigest()] for run in runs],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
