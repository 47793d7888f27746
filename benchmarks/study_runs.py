"""One contender's study as a process: its arguments, how long it takes, and its losses."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import ROOT
from search import load_study
from search.spec.study_file import find_study_file

OURS, UNAVERAGED, RAY, OPTUNA = "ours", "ours_unaveraged", "ray", "optuna"
ALL_IMAGES = 50_000  # from here on the validation images are the data set's usual number
VALIDATION_SHARE = 3  # else one validation image for this many training images
STUDY = """\
[study]
dataset = {dataset}
trials = {trials}
objective = "validation_loss" # what the others lower, and what is compared
epochs = {epochs}
seed = {seed}
pruner = "promotion"
{part}
"""


class StudyError(RuntimeError):
    """A contender's command that failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRun:
    """One contender's study.

    Attributes:
        seconds: duration of the whole command.
        losses: (seconds since the command's start, validation loss) of each epoch, in order.
    """

    seconds: float
    losses: tuple[tuple[float, float], ...]

    @property
    def epochs(self) -> int:
        return len(self.losses)

    @property
    def best(self) -> float:
        return min(loss for _, loss in self.losses)

    def seconds_to(self, target: float) -> float | None:
        """Seconds until the target was first reached; None if it never was."""
        return next((seconds for seconds, loss in self.losses if loss <= target), None)


def write_study(path: Path, args: argparse.Namespace, seed: int, *, averaging: bool) -> None:
    """Write a study file with the default study's space at the benchmark's scale."""
    text = find_study_file("default").read_text(encoding="utf-8")
    space = text[text.index("\n[space]\n") : text.index("\n[baseline]\n")]
    if not averaging:
        space, changed = re.subn("(?m)^weight_averaging = .*$", "weight_averaging = 0.0", space)
        assert changed == 1
    part = ""
    if args.limit < ALL_IMAGES:
        validation = max(1, args.limit // VALIDATION_SHARE)
        part = f"limit = {args.limit}\nvalidation_count = {validation}"
    head = STUDY.format(
        dataset=json.dumps(args.dataset),
        trials=args.trials,
        epochs=args.epochs,
        seed=seed,
        part=part,
    )
    path.write_text(head + space, encoding="utf-8")


def run_study(name: str, args: argparse.Namespace, seed: int, loaders: int) -> StudyRun:
    """Run one contender's study as a command, timed from start to end."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        study, log = folder / "study.toml", folder / "epochs.jsonl"
        write_study(study, args, seed, averaging=name == OURS)
        ours = name in (OURS, UNAVERAGED)
        if ours:
            command = ["search.study", "--config", str(study), "--study", "benchmark"]
        else:
            command = ["benchmarks.search_peers", name, "--config", str(study), "--log", str(log)]
            command += ["--loaders", str(loaders)] if name == OPTUNA else []
        command += ["--device", args.device, "--data-dir", str(args.data_dir.absolute())]
        began, started = time.time(), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise StudyError(f"{name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        moments = our_losses(folder) if ours else logged_losses(log)
    losses = tuple(sorted((moment - began, loss) for moment, loss in moments))
    return StudyRun(seconds=seconds, losses=losses)


def our_losses(folder: Path) -> list[tuple[float, float]]:
    """(moment, validation loss) of each finished epoch, from the study's database."""
    view = load_study("benchmark", storage=f"sqlite:///{folder}/studies.db")
    return [(row.reported_at, row.validation_loss) for trial in view.trials for row in trial.curve]


def logged_losses(log: Path) -> list[tuple[float, float]]:
    """The same for a peer, from its log."""
    lines = map(json.loads, log.read_text().splitlines())
    return [(line["moment"], line["loss"]) for line in lines]
