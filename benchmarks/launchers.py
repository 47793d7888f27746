"""The cost of launching: the same study on local processes, on Ray, and under Ray Tune, in turn.

    python -m benchmarks.launchers --json benchmarks/results/launchers.json

Each contender is a command, timed from its start to its end. The first two are `search.study`, with
and without `--ray local`: random configurations, none stopped. Under Ray Tune the very same
configurations are trained by the very same code with the same seeds, one per trial, with a report
and a checkpoint every epoch; by default Ray Tune starts a process for each trial, which
`reuse_actors=True` avoids. Each worker has one thread, so that all curves must agree to the bit.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.ray_tune import LOSS, tune_trials
from benchmarks.record import ROOT, BenchmarkParser, environment, spread, write_json
from search import load_study
from search.running.trial import trial_seed
from search.spec.config import StudySpec
from search.terminal.commands import run
from search.training.device import prepare_process
from search.training.task import Task, load_study_task
from search.training.train import train

STUDY = """\
[study]
dataset = "{dataset}"
limit = {limit}
trials = {trials}
epochs = {epochs}
pruner = "none"
sampler = "random"

"""
LOCAL, ON_RAY = "local processes", "Ray (--ray local)"
TUNE, REUSED = "Ray Tune", "Ray Tune, reuse_actors=True"
Curve = list[tuple[int, float]]  # (epoch, validation loss)


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_counts(
        ("trials", 24, "of the study"),
        ("epochs", 2, "per trial"),
        ("limit", 4000, "images"),
        ("workers", 2, "trials at a time"),
        ("rounds", 3, "each runs every contender once"),
    )
    own.add("dataset", "json", "data-dir")
    own.add_argument("--tune", type=Path, help=argparse.SUPPRESS)  # be Ray Tune; log to this file
    own.add_argument("--reuse", action="store_true", help=argparse.SUPPRESS)
    return own


def timed(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a command; returns its start (seconds since 1970) and its duration in seconds."""
    began, clock = time.time(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return began, time.perf_counter() - clock


def measure(name: str, args: argparse.Namespace, folder: Path) -> tuple[dict[str, float], Any]:
    """One contender's metrics, and its curves by trial number.

    `start` is the time to the first trial's first step, `overhead` the cost of a trial from then on
    besides its epochs: (workers * seconds - those of all epochs) / trials.
    """
    data = ["--data-dir", str(args.data_dir.absolute())]
    if name in (TUNE, REUSED):
        log = folder / "tune.jsonl"
        log.unlink(missing_ok=True)
        counts = ["--trials", str(args.trials), "--workers", str(args.workers)]
        words = ["benchmarks.launchers", "--tune", str(log), *counts, *data]
        began, seconds = timed([*words, *["--reuse"] * (name == REUSED)], folder)
        rows = [json.loads(line) for line in log.read_text().splitlines()]
    else:
        Path(folder, "studies.db").unlink(missing_ok=True)
        words = ["search.study", "--config", "study.toml", "--workers", str(args.workers), *data]
        words += ["--study", "same", *(["--ray", "local"] if name == ON_RAY else [])]
        began, seconds = timed(words, folder)
        trials = load_study("same", storage=f"sqlite:///{folder}/studies.db").trials
        rows = [
            {
                "trial": row.trial_number,
                "epoch": row.epoch,
                "loss": row.validation_loss,
                "seconds": row.seconds,
                "moment": row.reported_at,
            }
            for trial in trials
            for row in trial.reports
        ]
    curves: dict[int, Curve] = {}
    for row in sorted(rows, key=lambda row: (row["trial"], row["epoch"])):
        curves.setdefault(row["trial"], []).append((row["epoch"], row["loss"]))
    start = min(row["moment"] - row["seconds"] for row in rows) - began
    training = math.fsum(row["seconds"] for row in rows)
    overhead = (args.workers * (seconds - start) - training) / args.trials
    return {"seconds": seconds, "start": start, "training": training, "overhead": overhead}, curves


def tune(args: argparse.Namespace) -> None:
    """Run the study `same` again, with Ray Tune."""
    from ray import tune

    view = load_study("same", storage="sqlite:///studies.db")
    task = load_study_task(view.spec, args.data_dir, torch.device("cpu"))
    configs = {trial.number: trial.config for trial in view.trials}

    def trainable(found: dict[str, Any], *, task: Task, spec: StudySpec) -> None:
        prepare_process(threads=1)
        number, config = found["number"], configs[found["number"]]
        assert config is not None
        training = train(
            config.architecture,
            config.recipe,
            task,
            seed=trial_seed(spec.seed, number),
            partial_epoch=True,
            metrics=spec.metrics,
            objective=spec.objective,
        )
        for epoch in training:
            loss, seconds = epoch.validation_loss, epoch.seconds
            row = {"trial": number, "epoch": epoch.epoch, "loss": loss, "seconds": seconds}
            with args.tune.open("a") as file:
                file.write(json.dumps({**row, "moment": time.time()}) + "\n")
            if epoch.epoch == 0:
                continue
            with tempfile.TemporaryDirectory() as kept:
                torch.save(training.state(), Path(kept, "checkpoint.pt"))
                tune.report({LOSS: loss}, checkpoint=tune.Checkpoint.from_directory(kept))

    tune_trials(
        tune.with_parameters(trainable, task=task, spec=view.spec),
        at_once=args.workers,
        space={"number": tune.grid_search(list(range(args.trials)))},
        reuse_actors=args.reuse,
    )


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.tune:
        tune(args)
        return 0
    contenders: Mapping[str, list[dict[str, float]]] = {LOCAL: [], ON_RAY: [], TUNE: [], REUSED: []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "study.toml").write_text(STUDY.format(**vars(args)))
        for number in range(args.rounds):
            seen = []
            for name, rounds in contenders.items():
                figures, curves = measure(name, args, folder)
                rounds.append(figures)
                seen.append(curves)
                print(f"round {number + 1}, {name}: {figures}", flush=True)
            assert all(curves == seen[0] for curves in seen), "the curves differ"
            assert len(seen[0]) == args.trials
    scale = ("dataset", "trials", "epochs", "limit", "workers")
    result = {
        **{name: getattr(args, name) for name in scale},
        "contenders": {
            name: {what: spread([one[what] for one in rounds]) for what in rounds[0]}
            for name, rounds in contenders.items()
        },
        **environment("launchers"),
    }
    write_json(args.json, result)
    return 0


if __name__ == "__main__":
    run(main)
