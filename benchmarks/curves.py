"""Recorded curves: configurations trained to the end without pruning, a JSON line for each run.

They hold what a search would have seen and how good its choice would have been, so that searches
can be replayed in seconds. The space is `benchmarks/curves.toml`. Configuration `number` is sampled
with the random seed `number`, so that records of several machines fit together; a run with seed s
trains it with another initialisation and order. Two equal parts are held out of the training set,
stratified by class: a search sees `validation`; `holdout` measures a configuration without the luck
of having been picked. The test set is not read.

    python -m benchmarks.curves fashion_mnist-8000.jsonl.gz --configs 300
    python -m benchmarks.curves fashion_mnist-8000.jsonl.gz --configs 40 --seeds 2

The same command resumes where it stopped; runs on record are not repeated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import sys
import time
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import optuna
import torch

from benchmarks.record import BenchmarkParser, environment, in_processes
from data.examples import Examples, split, thinned
from models.summary import anatomy
from search.running.pool import default_workers, threads_for
from search.spec.config import StudySpec, TrialConfig
from search.spec.space import suggest
from search.spec.study_file import read_study_file
from search.terminal.commands import run
from search.training.device import choose_device, prepare_process
from search.training.epoch import Epoch, derived_seed
from search.training.metrics import fit_temperature, loss_at
from search.training.task import Task, load_study_task, logits, make_task, score
from search.training.train import Training, train

SPACE = Path(__file__).with_suffix(".toml")
CLEAN = 2000  # training images on which the clean training loss is measured
DIGITS = 5  # significant digits of each number on record
PACKED = 6  # trained at a time on a GPU, in one process
Recording = Generator[None, None, dict[str, Any]]


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_argument("file", type=Path, metavar="FILE", help="the record, ending in .jsonl.gz")
    own.add_counts(
        ("configs", 150, "configurations, starting at number 0"),
        ("seeds", 1, "trainings per configuration"),
        ("epochs", 10, "per training"),
        ("limit", 8000, "training images"),
        ("held-out", 5000, "images in each of the two parts held out"),
        ("workers", None, "processes (default: one per core)"),
    )
    own.add("dataset", "device", "data-dir")
    return own


def study_spec(epochs: int) -> StudySpec:
    """A study of the recorded space."""
    return StudySpec(**{**read_study_file(SPACE), "dataset": "", "epochs": epochs})


def title(file: Path) -> str:
    """A record's name: that of its data set, optionally followed by `-` and a number of images."""
    return file.name.removesuffix(".jsonl.gz")


def data_set(file: Path) -> str:
    return title(file).partition("-")[0]


def draw(number: int, epochs: int) -> tuple[dict[str, Any], TrialConfig]:
    """The parameters of configuration `number` as Optuna stores them, and the configuration."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number)).ask()
    config = suggest(trial, study_spec(epochs))
    return {name: _rounded(value) for name, value in trial.params.items()}, config


def record(pair: tuple[int, int], args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """One configuration trained to its end, in a process of its own."""
    prepare_process(threads)
    (found,) = in_turn([recording(*pair, args)])
    return found


def in_turn(recordings: Iterable[Recording], at_once: int = 1) -> Iterator[dict[str, Any]]:
    """Train several at a time, a slice of each in turn; yields the runs as they finish."""
    waiting = iter(recordings)
    running = deque(islice(waiting, at_once))
    while running:
        one = running.popleft()
        try:
            next(one)
            running.append(one)
        except StopIteration as ended:
            running.extend(islice(waiting, 1))
            yield ended.value


def recording(number: int, seed: int, args: argparse.Namespace) -> Recording:
    """Train one configuration to its end; yields after each slice, and returns the run."""
    task, holdout = _task(args.dataset, args.data_dir, args.device, args.limit, args.held_out)
    params, config = draw(number, args.epochs)
    rows = anatomy(config.architecture, task.image_shape, task.classes)
    seeded = derived_seed(seed, "curves", number)
    training = train(config.architecture, config.recipe, task, seed=seeded, partial_epoch=True)
    clean = thinned(task.training, min(1.0, CLEAN / len(task.training)))
    reports, cpu_seconds = [], 0.0
    before = time.process_time()
    for epoch in training.slices():
        cpu_seconds += time.process_time() - before
        if epoch is None:
            yield
        else:
            measured = _measured(training, task, clean, holdout)
            reports.append({**measured, **_seen(epoch, cpu_seconds)})
            cpu_seconds = 0.0
        before = time.process_time()
    return {
        "number": number,
        "seed": seed,
        "dataset": args.dataset,
        "training_images": len(task.training),
        "held_out": args.held_out,
        "epochs": args.epochs,
        "params": params,
        "parameters": sum(row.parameters for row in rows),
        "multiply_adds": sum(row.multiply_adds for row in rows),
        "reports": reports,
    }


def _seen(epoch: Epoch, cpu_seconds: float) -> dict[str, Any]:
    """What the training itself reports; seconds include validation, as in a study."""
    names = ("epoch", "train_loss", "train_error", "learning_rate", "images", "seconds")
    found = {name: _rounded(getattr(epoch, name)) for name in names}
    return {**found, "cpu_seconds": _rounded(cpu_seconds)}


def _measured(training: Training, task: Task, clean: Examples, holdout: Examples) -> dict[str, Any]:
    """Losses on unaugmented images without dropout; the temperature is fitted on validation."""
    found: dict[str, float] = {}
    parts = {"validation": task.validation, "holdout": holdout, "clean_train": clean}
    temperature = torch.ones(())
    for name, examples in parts.items():
        logits_NK = logits(training.model, examples.images_NCHW, task.mean_C, task.std_C)
        plain = score(logits_NK, examples.labels_N)
        found |= {f"{name}_loss": plain.loss, f"{name}_error": plain.error}
        if name == "validation":
            temperature = fit_temperature(logits_NK, examples.labels_N)
            found["temperature"] = float(temperature)
        calibrated = loss_at(logits_NK, examples.labels_N, temperature)
        found[f"calibrated_{name}_loss"] = float(calibrated)
    return {name: _rounded(value) for name, value in found.items()}


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


@cache
def _task(
    dataset: str, data_dir: Path, device: str, limit: int, held_out: int
) -> tuple[Task, Examples]:
    """The task that a search would have, and the second held-out part; loaded once per process."""
    spec = StudySpec(dataset=dataset, limit=limit, validation_count=2 * held_out)
    whole = load_study_task(spec, data_dir, choose_device(device))
    validation, holdout = split(whole.validation, validation_count=held_out, seed=0)
    return make_task(whole.info, whole.training, validation, whole.device), holdout


def read(file: Path) -> Iterator[dict[str, Any]]:
    """The runs on record; a line that a kill left unfinished is skipped."""
    if not file.exists():
        return
    with gzip.open(file, "rt") as lines:
        while True:
            try:
                line = lines.readline()
            except (EOFError, zlib.error, gzip.BadGzipFile):
                return
            if not line.endswith("\n"):
                return
            yield json.loads(line)


def _write(file: Path, runs: list[dict[str, Any]], mode: Literal["ab", "wb"]) -> None:
    with gzip.open(file, mode) as lines:
        for one in runs:
            lines.write(json.dumps(one, separators=(",", ":")).encode() + b"\n")


def _check_alike(known: list[dict[str, Any]], args: argparse.Namespace) -> None:
    wanted = {"dataset": args.dataset, "epochs": args.epochs, "held_out": args.held_out}
    for one in known:
        for name, value in wanted.items():
            if one[name] != value:
                raise SystemExit(
                    f"{args.file} holds runs with {name} {one[name]!r}, but got {value!r}; "
                    "name another file"
                )


def _trained(
    pairs: Sequence[tuple[int, int]], args: argparse.Namespace, device: torch.device, workers: int
) -> Iterator[dict[str, Any]]:
    """The runs as they finish: in `workers` processes, or in this one if there is only one."""
    if workers == 1:
        prepare_process(1)
        at_once = PACKED if device.type == "cuda" else 1
        yield from in_turn((recording(*pair, args) for pair in pairs), at_once)
        return
    threads = threads_for(workers) if args.workers is None else 1
    trained = in_processes(partial(record, args=args, threads=threads), pairs, workers)
    yield from (found for _, found in trained)


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = parser().parse_args(argv)
    known = list(read(args.file))
    _check_alike(known, args)
    args.file.parent.mkdir(parents=True, exist_ok=True)
    _write(args.file, known, "wb")  # drops an unfinished line, and is one gzip member again
    done = {(one["number"], one["seed"]) for one in known}
    wanted = [(number, seed) for seed in range(args.seeds) for number in range(args.configs)]
    missing = [pair for pair in wanted if pair not in done]
    device = choose_device(args.device)
    _task(args.dataset, args.data_dir, args.device, args.limit, args.held_out)
    workers = args.workers or default_workers(device.type)
    made_on: Mapping[str, Any] = environment("curves", device)
    started = time.monotonic()
    for count, one in enumerate(_trained(missing, args, device, workers), 1):
        _write(args.file, [{**one, "made_on": made_on}], "ab")
        left = (time.monotonic() - started) / count * (len(missing) - count)
        print(
            f"{len(known) + count} runs on record, {len(missing) - count} to go, about "
            f"{left / 60:.0f} min: configuration {one['number']}, seed {one['seed']}, "
            f"validation loss {one['reports'][-1]['validation_loss']}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(main)
