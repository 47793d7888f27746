"""Retrain the best trial on the full training set and score it on the test set, once."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from sklearn.metrics import confusion_matrix

from data.datasets import load_test, verify
from models import build
from models.anatomy import anatomy
from search.reporting.commands import Parser, console, positive_int, run
from search.reporting.content_writer import ContentWriter
from search.reporting.final_page import final_page, final_text
from search.reporting.final_pictures import save_pictures
from search.reporting.final_progress import FinalProgress
from search.reporting.final_result import FinalResult, SeedRun, figures_on_test, metrics
from search.reporting.final_words import opened_before
from search.training.checkpoint import (
    delete_checkpoint,
    latest_checkpoint,
    save_checkpoint,
    write_atomically,
)
from search.training.device import choose_device, describe_hardware, prepare_process
from search.training.evaluate import Score, evaluate, logits, score
from search.training.randomness import derived_seed
from search.training.task import Task, load_full_task
from search.training.train import Epoch, StoppedError, train
from search.trials.catalog import require_study, versions
from search.trials.config import TrialConfig, check_study_name
from search.trials.folders import DEFAULT_STORAGE, run_folder
from search.trials.history import add_result, complete_result
from search.trials.opening import open_database
from search.trials.stopping import StopOnSignal
from search.trials.storage import StorageError
from search.trials.view import StudyView, TrialView, view_study

BUNDLE_FORMAT = 1
EXAMPLES = """
python -m search.finalize                        # the study that was worked on last
python -m search.finalize --study fashion_mnist  # another one
python -m search.finalize --seeds 5              # a tighter error bar
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedRun:
    """The winner trained with one seed, not tested yet."""

    seed: int
    curve: tuple[Epoch, ...]
    training: Score
    weights: dict[str, torch.Tensor]  # in main memory

    @property
    def seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.curve)


def parser() -> Parser:
    own = Parser(
        description="Take the best trial of a study, train it again on the full training set "
        "(validation images included) with several seeds, and score it on the test set. Writes "
        "model, figures and a page to runs/<study>/final/. Each reading of the test set is "
        "recorded in the database.",
        examples=EXAMPLES,
    )
    own.add_argument("--study", metavar="NAME", help="which (default: worked on last)")
    own.add_argument("--storage", metavar="URL", default=DEFAULT_STORAGE, help="the database")
    own.add_argument("--seeds", type=positive_int, default=3, metavar="N", help="how many runs")
    own.add_device()
    own.add_data_dir()
    return own


def best_trial(view: StudyView) -> tuple[TrialView, TrialConfig, int]:
    """The trial with the lowest validation loss, its configuration, and its best epoch."""
    trial = view.best
    if trial is None or trial.best is None or trial.config is None:
        raise StorageError(
            f"no finished trials in study {view.name!r}; run python -m search.study "
            f"--study {view.name} first"
        )
    return trial, trial.config, trial.best.epoch


def train_once(
    config: TrialConfig,
    epochs: int,
    task: Task,
    *,
    seed: int,
    study_seed: int,
    folder: Path,
    stop: threading.Event,
    progress: FinalProgress,
) -> TrainedRun:
    """Follow the trial's recipe, with its whole schedule, up to its best epoch.

    Goes on from a checkpoint where an earlier start left one.
    """
    checkpoint = checkpoint_path(folder, seed)
    identity = {"config": config.to_dict(), "epochs": epochs, "seed": [study_seed, seed]}
    saved = latest_checkpoint(checkpoint)
    if saved is None or saved["identity"] != identity:
        saved = {"curve": [], "training": None}
    curve = [Epoch(**epoch) for epoch in saved["curve"]]
    progress.resumed(seed, len(curve))

    training = train(
        config.architecture,
        dataclasses.replace(config.recipe, patience=None),
        task,
        seed=derived_seed(study_seed, "final", seed),
        state=saved["training"],
        stop=stop,
    )
    while training.epoch < epochs:
        epoch = next(training)
        curve.append(epoch)
        save_checkpoint(
            checkpoint,
            {
                "identity": identity,
                "curve": [dataclasses.asdict(epoch) for epoch in curve],
                "training": training.state(),
            },
        )
        progress.epoch(seed, epoch)
    return TrainedRun(
        seed=seed,
        curve=tuple(curve),
        training=evaluate(training.model, task.training, task.mean_C, task.std_C),
        weights={
            name: tensor.cpu().contiguous() for name, tensor in training.model.state_dict().items()
        },
    )


def checkpoint_path(folder: Path, seed: int) -> Path:
    return folder / "checkpoints" / f"final-{seed}.pt"


def test(
    runs: list[TrainedRun], config: TrialConfig, task: Task, data_dir: Path, image_size: int | None
) -> tuple[list[SeedRun], int, Any]:
    """Score every run on the test set: (scored runs, number of images, confusion (K, K))."""
    examples = load_test(task.info.name, data_dir, image_size=image_size).to(task.device)
    labels_N = examples.labels_N.cpu().numpy()
    confusion_KK = np.zeros((task.classes, task.classes), dtype=np.int64)
    model = build(config.architecture, task.image_shape, task.classes).to(task.device)
    model = model.to(memory_format=torch.channels_last)
    scored = []
    for run_ in runs:
        model.load_state_dict(run_.weights)
        logits_NK = logits(model, examples.images_NCHW, task.mean_C, task.std_C)
        predicted_N = logits_NK.argmax(1).cpu().numpy()
        confusion_KK += confusion_matrix(labels_N, predicted_N, labels=range(task.classes))
        scored.append(
            SeedRun(
                seed=run_.seed,
                curve=run_.curve,
                training=run_.training,
                test=score(logits_NK, examples.labels_N),
                seconds=run_.seconds,
            )
        )
    return scored, len(examples), confusion_KK


def bundle_config(final: FinalResult, config: TrialConfig, task: Task) -> dict[str, Any]:
    """What is needed besides the weights to use the model, without the data set."""
    return {
        "format": BUNDLE_FORMAT,
        "study": final.view.name,
        "trial": final.trial.number,
        "dataset": final.view.dataset.name,
        "class_names": list(task.info.class_names),
        "image_shape": list(task.image_shape),
        "mean": task.mean_C.tolist(),
        "std": task.std_C.tolist(),
        "epochs": final.epochs,
        "seed": final.runs[0].seed,
        **config.to_dict(),
    }


def write_bundle(
    final: FinalResult, config: TrialConfig, task: Task, weights: dict[str, Any], folder: Path
) -> None:
    """Each file whole or not at all; `metrics.json` last."""
    write_atomically(folder / "model.safetensors", to_safetensors(weights))
    write_json(folder / "config.json", bundle_config(final, config, task))
    save_pictures(final, folder)
    write_atomically(folder / "report.html", final_page(final).encode())
    write_json(folder / "metrics.json", metrics(final))


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.study is not None:
        check_study_name(args.study)
    device = choose_device(args.device)
    prepare_process()
    data_dir = args.data_dir
    db = open_database(args.storage, must_exist=True)
    study = require_study(db, args.study)
    view = view_study(db, study)
    trial, config, epochs = best_trial(view)
    folder = run_folder(view.name)
    verify(view.dataset.name, data_dir)  # a missing test file is found now, not after training
    task = load_full_task(view.dataset.name, data_dir, device, image_size=view.spec.image_size)
    announce(view, trial, args.seeds)

    with StopOnSignal() as stopping:
        try:
            with FinalProgress(console(), seeds=args.seeds, epochs=epochs) as progress:
                runs = [
                    train_once(
                        config,
                        epochs,
                        task,
                        seed=seed,
                        study_seed=view.spec.seed,
                        folder=folder,
                        stop=stopping.event,
                        progress=progress,
                    )
                    for seed in range(args.seeds)
                ]
        except StoppedError:
            print("Stopped, nothing is lost: the same command goes on.", file=sys.stderr)
            return stopping.exit_code

    opened = add_result(
        db, study_name=view.name, trial_number=trial.number, seeds=list(range(args.seeds))
    )
    opened_at = datetime.now(UTC)
    scored, test_count, confusion_KK = test(runs, config, task, data_dir, view.spec.image_size)
    first_conv = runs[0].weights.get("conv1.weight")
    final = FinalResult(
        view=view,
        trial=trial,
        epochs=epochs,
        layers=anatomy(config.architecture, task.image_shape, task.classes),
        runs=tuple(scored),
        training_count=len(task.training),
        test_count=test_count,
        opened_at=opened_at,
        confusion_KK=confusion_KK,
        kernels=None if first_conv is None else first_conv.float().numpy(),
        hardware=describe_hardware(device),
        versions=versions(),
    )
    complete_result(db, opened, figures_on_test(final))
    final_folder = folder / "final"
    final_folder.mkdir(parents=True, exist_ok=True)
    write_bundle(final, config, task, runs[0].weights, final_folder)
    for seed in range(args.seeds):
        delete_checkpoint(checkpoint_path(folder, seed))
    ContentWriter(db, study).write()
    print(final_text(final))
    print(f"\nWritten to {final_folder}: model.safetensors, report.html and more")
    return 0


def announce(view: StudyView, trial: TrialView, seeds: int) -> None:
    unfinished = view.spec.trials - view.finished
    if unfinished > 0:
        print(f"Note: the study still lacks {unfinished} of its trials.", file=sys.stderr)
    warning = opened_before(view)
    if warning:
        print(f"Note: {warning}", file=sys.stderr)
    print(
        f"Trial {trial.number} of study {view.name}, trained on all training images, "
        f"{seeds} {'time' if seeds == 1 else 'times'}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(main)
