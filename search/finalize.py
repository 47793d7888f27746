"""Retrain a study's best trial on the full training set and score it on the test set, once."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from data.composition import measure
from data.datasets import load_test, verify
from models.anatomy import anatomy
from search.reporting.commands import Parser, console, positive_int, run
from search.reporting.content_writer import ContentWriter
from search.reporting.final_page import final_page, final_text
from search.reporting.final_pictures import save_pictures
from search.reporting.final_progress import FinalProgress
from search.reporting.final_result import FinalResult, SeedRun, figures_on_test, metrics
from search.reporting.final_words import opened_before
from search.reporting.inside import choose_image, look_inside
from search.reporting.mistakes import Mistake, collect_mistakes
from search.reporting.wording import printable
from search.training.bundle import Bundle, write_bundle
from search.training.checkpoint import write_atomically
from search.training.device import choose_device, describe_hardware, prepare_process
from search.training.evaluate import logits, score
from search.training.export import ONNX, export_onnx, require_onnx
from search.training.repeat import Job, TrainedRun, epochs_done, forget, train_seed
from search.training.task import Task, load_full_task
from search.training.train import StoppedError
from search.trials.catalog import require_study, versions
from search.trials.chosen import Chosen, choose_trial
from search.trials.config import check_study_name
from search.trials.folders import DEFAULT_STORAGE, run_folder
from search.trials.history import add_result, complete_result
from search.trials.opening import open_database
from search.trials.seed_team import THREADS, train_apart
from search.trials.stopping import StopOnSignal
from search.trials.team import default_workers
from search.trials.view import StudyView, view_study

EXAMPLES = """
python -m search.finalize                        # the study that was worked on last
python -m search.finalize --study fashion_mnist  # another one
python -m search.finalize --seeds 5              # a tighter error bar
python -m search.finalize --export onnx          # also a model that needs no PyTorch
"""


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
    which = own.add_mutually_exclusive_group()
    which.add_argument(
        "--trial", type=trial_number, metavar="N", help="another trial than the best"
    )
    which.add_argument("--arm", metavar="NAME", help="the best repeat of an arm, of a comparison")
    own.add_argument(
        "--image",
        metavar="FILE_OR_INDEX",
        help="whose feature maps are drawn: a picture, or a training image counted from 0 "
        "(default: the first of class 0)",
    )
    own.add_argument("--export", choices=["onnx"], help="also write the model in this format")
    own.add_device()
    own.add_data_dir()
    return own


def trial_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 up, but got {text!r}")
    return int(text)


def train_all(
    job: Job, task: Task, seeds: Sequence[int], stop: threading.Event
) -> list[TrainedRun]:
    """Every seed's run: side by side on a CPU with several cores, else one after another.

    Raises:
        StoppedError: `stop` was set; the same call goes on.
        RepeatError: a run died or diverged.
    """
    processes = min(len(seeds), default_workers(task.device.type))
    with FinalProgress(console(), seeds=len(seeds), epochs=job.epochs) as progress:
        for seed in seeds:
            progress.resumed(seed, epochs_done(job, seed))
        if processes > 1:
            train_apart(job, seeds, processes=processes, stop=stop, on_epoch=progress.epoch)
        return [
            train_seed(job, task, seed, stop=stop, on_epoch=partial(progress.epoch, seed))
            for seed in seeds
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tested:
    """The test set's verdict; confusion_KK: counts of all runs; mistakes: the first run's."""

    runs: tuple[SeedRun, ...]
    images: int
    confusion_KK: NDArray[np.int64]
    mistakes: tuple[tuple[Mistake, ...], ...]


def test(
    runs: Sequence[TrainedRun], bundle: Bundle, task: Task, data_dir: Path, image_size: int | None
) -> Tested:
    """Score every run on the test set."""
    examples = load_test(bundle.dataset, data_dir, image_size=image_size).to(task.device)
    labels_N = examples.labels_N.cpu().numpy()
    confusion_KK = np.zeros((task.classes, task.classes), dtype=np.int64)
    model = bundle.network().to(task.device)
    scored, all_logits = [], []
    for run_ in runs:
        model.load_state_dict(run_.weights)
        logits_NK = logits(model, examples.images_NCHW, task.mean_C, task.std_C)
        predicted_N = logits_NK.argmax(1).cpu().numpy()
        confusion_KK += confusion_matrix(labels_N, predicted_N, labels=range(task.classes))
        all_logits.append(logits_NK)
        scored.append(
            SeedRun(
                seed=run_.seed,
                curve=run_.curve,
                training=run_.training,
                test=score(logits_NK, examples.labels_N),
                seconds=run_.seconds,
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


def make_bundle(view: StudyView, chosen: Chosen, task: Task, first: TrainedRun) -> Bundle:
    images_NCHW = task.training.images_NCHW
    return Bundle(
        study=view.name,
        trial=chosen.trial.number,
        seed=first.seed,
        epochs=chosen.epochs,
        dataset=view.dataset.name,
        title=view.dataset.title,
        class_names=task.info.class_names,
        image_shape=task.image_shape,
        mean_C=task.mean_C.cpu(),
        std_C=task.std_C.cpu(),
        composition=measure(images_NCHW.cpu().numpy()),
        architecture=chosen.config.architecture,
        recipe=chosen.config.recipe.to_dict(),
        weights=first.weights,
    )


def write_all(final: FinalResult, bundle: Bundle, folder: Path) -> None:
    """Each file whole or not at all; `metrics.json` last."""
    (folder / ONNX).unlink(missing_ok=True)  # an earlier network's
    write_bundle(bundle, folder)
    save_pictures(final, folder)
    write_atomically(folder / "report.html", final_page(final).encode())
    text = json.dumps(metrics(final), indent=2, allow_nan=False) + "\n"
    write_atomically(folder / "metrics.json", text.encode())


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.study is not None:
        check_study_name(args.study)
    if args.export is not None:
        require_onnx()
    device = choose_device(args.device)
    prepare_process(THREADS if device.type == "cpu" else None)
    db = open_database(args.storage, must_exist=True)
    study = require_study(db, args.study)
    view = view_study(db, study)
    chosen = choose_trial(view, args.trial, args.arm)
    folder = run_folder(view.name)
    image_size = view.spec.image_size
    verify(view.dataset.name, args.data_dir)  # a test file that is missing is missed now
    task = load_full_task(view.dataset.name, args.data_dir, device, image_size=image_size)
    shown = choose_image(args.image, task)
    announce(view, chosen, args.seeds)
    job = Job(
        architecture=chosen.config.architecture,
        recipe=chosen.config.recipe,
        epochs=chosen.epochs,
        dataset=view.dataset.name,
        image_size=image_size,
        data_dir=args.data_dir,
        study_seed=view.spec.seed,
        checkpoints=folder / "checkpoints",
    )
    seeds = range(args.seeds)
    with StopOnSignal() as stopping:
        try:
            runs = train_all(job, task, seeds, stopping.event)
        except StoppedError:
            print("Stopped, nothing is lost: the same command goes on.", file=sys.stderr)
            return stopping.exit_code

    opened = add_result(
        db, study_name=view.name, trial_number=chosen.trial.number, seeds=list(seeds)
    )
    opened_at = datetime.now(UTC)
    bundle = make_bundle(view, chosen, task, runs[0])
    tested = test(runs, bundle, task, args.data_dir, image_size)
    final = FinalResult(
        view=view,
        trial=chosen.trial,
        epochs=chosen.epochs,
        layers=anatomy(chosen.config.architecture, task.image_shape, task.classes),
        runs=tested.runs,
        training_count=len(task.training),
        test_count=tested.images,
        opened_at=opened_at,
        confusion_KK=tested.confusion_KK,
        hardware=describe_hardware(device),
        versions=versions(),
        why=chosen.why,
        mistakes=tested.mistakes,
        **look_inside(bundle, task, shown),
    )
    complete_result(db, opened, figures_on_test(final))
    final_folder = folder / "final"
    write_all(final, bundle, final_folder)
    for seed in seeds:
        forget(job, seed)
    ContentWriter(db, study).write()
    print(final_text(final))
    print(f"\nWritten to {final_folder}: model.safetensors, report.html and more")
    if args.export is not None:
        made = export_onnx(bundle, final_folder, task.training.images_NCHW)
        print(
            f"Written too: {ONNX}; on {made.images} training images its logits differ from "
            f"PyTorch's by {made.difference:.1e} at most ({made.checker})"
        )
    return 0


def announce(view: StudyView, chosen: Chosen, seeds: int) -> None:
    unfinished = view.spec.trials - view.finished
    if unfinished > 0 and not view.spec.is_comparison:
        print(f"Note: the study still lacks {unfinished} of its trials.", file=sys.stderr)
    if chosen.why:
        print(f"Note: {printable(chosen.why)}", file=sys.stderr)
    warning = opened_before(view)
    if warning:
        print(f"Note: {warning}", file=sys.stderr)
    print(
        f"Trial {chosen.trial.number} of study {view.name}, trained on all training images, "
        f"{seeds} {'time' if seeds == 1 else 'times'}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    run(main)
