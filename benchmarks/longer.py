"""What `finalize --epochs` gains, on validation images: the best trials of a study, trained again.

Each is trained with fresh seeds on the study's own split: up to its best epoch (its whole schedule
if it had been stopped), and as `finalize --epochs` does for a multiple of the study's epochs. All
are judged by the last epoch's weights, which `finalize` keeps. The test set is not read.

    python -m search.study --dataset cifar10
    python -m benchmarks.longer --study cifar10 --best 3 --times 2

The same command resumes: the trainings keep checkpoints in the study's folder, which `finalize
--candidates` uses, too.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from contextlib import closing
from statistics import mean, stdev
from typing import Any

from benchmarks.record import BenchmarkParser, environment, show_table, write_json
from data.datasets import default_data_dir
from search.analysis.wording import counted
from search.final.choose import Chosen, choose_candidates
from search.final.runs import THREADS, train_all
from search.spec.objectives import CALIBRATED_LOSS
from search.store import default_storage, folders
from search.store.opening import open_database
from search.store.studies import require_study
from search.store.views import view_study
from search.terminal.commands import run
from search.training.device import choose_device, prepare_process
from search.training.repeat import TrainedRun
from search.training.task import load_study_task


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_counts(
        ("best", 3, "trials, those with the lowest values"),
        ("seeds", 1, "fresh seeds per training"),
        ("times", [2], "the study's epochs, times these"),
    )
    own.add("study", "storage", "device", "data-dir", "runs-dir", "json")
    return own


def measured(of: Chosen, runs: Sequence[TrainedRun]) -> dict[str, Any]:
    """How the trainings of one choice ended on the validation images, a value for each seed."""
    ends, recipe = [run.curve[-1] for run in runs], of.config.recipe
    return {
        "trial": of.trial.number,
        "epochs": of.epochs,
        "augmentation_strength": recipe.augmentation_strength,
        "train_loss": [end.train_loss for end in ends],
        "validation_loss": [end.metrics[CALIBRATED_LOSS] for end in ends],
        "validation_error": [end.validation_error for end in ends],
    }


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = parser().parse_args(argv)
    device = choose_device(args.device)
    prepare_process(THREADS if device.type == "cpu" else None)
    storage = args.storage or default_storage()
    images = args.data_dir or default_data_dir()
    with closing(open_database(storage, must_exist=True, runs_dir=args.runs_dir)) as db:
        found = require_study(db, args.study)
        view = view_study(found)
        folder = folders.study_folder(found, folders.runs_folder(storage, args.runs_dir))
    task = load_study_task(view.spec, images, device)
    lengths = [None, *(times * view.spec.epochs for times in args.times)]
    chosen = [one for length in lengths for one in choose_candidates(view, args.best, length)]
    jobs = [
        job
        for one in chosen
        for job in one.jobs(
            args.seeds,
            is_candidate=True,
            spec=view.spec,
            data_dir=images,
            checkpoints=folder / folders.CHECKPOINTS,
            content=task.content,
        )
    ]
    runs = train_all(jobs, task, stop=threading.Event(), progress=True)
    seeds = args.seeds
    rows = [measured(one, runs[seeds * at : seeds * (at + 1)]) for at, one in enumerate(chosen)]
    result = {**environment("longer", device), "study": view.name, "rows": rows}
    write_json(args.json, {**result, "spec": view.spec.to_dict()})
    headings = ["trial", "epochs", "strength", "training loss", "calibrated loss", "error"]
    show_table(f"{view.name}, {counted(seeds, 'fresh seed')}", headings, map(cells, rows))
    for at, length in enumerate(lengths[1:], 1):
        own, longer = rows[: args.best], rows[args.best * at : args.best * (at + 1)]
        for name in ("validation_loss", "validation_error"):
            fell = [mean(a[name]) - mean(b[name]) for a, b in zip(own, longer, strict=True)]
            around = f" ± {stdev(fell) / len(fell) ** 0.5:.4f}" if len(fell) > 1 else ""
            print(f"{length} epochs lower the {name.replace('_', ' ')} by {mean(fell):.4f}{around}")
    return 0


def cells(row: dict[str, Any]) -> list[str]:
    losses = [f"{mean(row[name]):.4f}" for name in ("train_loss", "validation_loss")]
    error = f"{100 * mean(row['validation_error']):.2f} %"
    strength = f"{row['augmentation_strength']:.2f}"
    return [str(row["trial"]), str(row["epochs"]), strength, *losses, error]


if __name__ == "__main__":
    run(main)
