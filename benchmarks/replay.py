"""Search strategies replayed on recorded curves, in simulated time.

Each search samples configurations, sees what their trainings reported, and stops or continues them,
with the code that drives real studies; only the training is replaced by its record
(`benchmarks.curves`). Compute is counted in whole trainings: workers x time since the start / the
mean time of a whole training. The incumbent is the trial with the lowest objective so far, at its
best epoch; it is scored by its error on images that no search sees.

    python -m benchmarks.curves digits.jsonl.gz --dataset digits --held-out 250
    python -m benchmarks.replay digits.jsonl.gz --sampler tpe --repeats 20 --workers 4
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import torch

from benchmarks.curves import title
from benchmarks.prior import LEAST, elsewhere, learn, load
from benchmarks.record import BenchmarkParser, environment, in_processes, write_figure, write_json
from benchmarks.replay_results import compare, draw_figure, markdown
from benchmarks.replay_simulation import BUDGET, HORIZON, Incumbent, on_cpu, simulate
from benchmarks.replay_strategies import STRATEGIES, find_strategy
from benchmarks.replay_surrogate import WORLDS, make_world
from search.terminal.commands import run

HERE = Path(__file__).parent
SCALE = ("horizon", "trials", "budget", "sampler", "clock")  # that a replay depends on
BASELINE = "random"  # the strategy that the others are compared with


class Replay(NamedTuple):
    """Searches that differ only in their seed."""

    file: Path
    world: str
    strategy: str
    workers: int

    @property
    def title(self) -> str:
        return f"{title(self.file)}, {self.world}"


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_records()
    own.add_registry("strategies; NAME@raw, @calibrated or @error sets the objective", STRATEGIES)
    own.add_argument(
        "--strategies",
        nargs="+",
        metavar="NAME",
        default=[*STRATEGIES, *(f"{name}@calibrated" for name in ("random", "asha"))],
        help="default: all, random and asha also with our objective",
    )
    own.add_argument(
        "--clock",
        choices=("recorded", "cpu"),
        default="recorded",
        help="duration of an epoch: as recorded (on a GPU: the same for every network), or as on a "
        "CPU, by the network's multiply-adds",
    )
    worlds = "pool: recorded configurations only; surrogate: a model fitted to them"
    own.add_argument("--worlds", nargs="+", choices=WORLDS, default=["pool"], help=worlds)
    own.add_counts(
        ("workers", [1, 4, 8], "that train at once"),
        ("repeats", 100, "seeds"),
        ("horizon", int(HORIZON), "compute of each search, in whole trainings"),
        ("workers-cpu", 1, "processes of this command"),
        ("trials", None, "for strategies that have a total (default: to fill the horizon)"),
    )
    share = f"share of trials x epochs that those may spend (default: {BUDGET})"
    own.add_argument("--budget", type=float, metavar="B", default=BUDGET, help=share)
    own.add("learn-from", "sampler", "json", "cache", "figure")
    return own


def _replay(what: tuple[Replay, int], args: argparse.Namespace) -> list[Incumbent]:
    job, seed = what
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    torch.set_num_threads(1)
    strategy = find_strategy(job.strategy, args.sampler)
    return simulate(
        strategy,
        make_world(job.file, job.world, args.cache),
        seed,
        job.workers,
        trials=args.trials,
        budget=args.budget,
        horizon=args.horizon,
        prior=_prior(_others(job, args), strategy.prior, args.cache),
        clock=on_cpu if args.clock == "cpu" else None,
    )


def _others(job: Replay, args: argparse.Namespace) -> tuple[Path, ...]:
    """The records that the job's prior is learned from."""
    return tuple(elsewhere(job.file, (*args.files, *args.learn_from)))


@cache
def _prior(files: tuple[Path, ...], kind: str, kept: Path) -> Path | None:
    """The file of a prior learned on these records; None if they are not enough for one."""
    records = [record for record in map(load, files) if len(record) >= LEAST]
    if not records or kind == "none":
        return None
    made = learn(records)
    if kind == "inverted":  # the coefficients of the parameters
        made |= {name: np.negative(made[name]).tolist() for name in ("promised", "starts", "ends")}
    text = json.dumps(made)
    file = kept / f"prior-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not file.exists():
        file.write_text(text)
    return file


def _kept(job: Replay, args: argparse.Namespace) -> Path:
    """The file of the job's replays: a new one after any change that could matter."""
    sources = [
        HERE / f"replay_{part}.py" for part in ("simulation", "strategies", "surrogate", "worlds")
    ]
    if find_strategy(job.strategy).is_ours:
        sources += [HERE / "prior.py", *sorted((HERE.parent / "search" / "sampling").rglob("*.py"))]
        sources += _others(job, args)
    digest = hashlib.sha256(job.file.read_bytes())
    for source in sources:
        digest.update(source.read_bytes())
    digest.update(repr((job[1:], *(getattr(args, name) for name in SCALE))).encode())
    return Path(args.cache) / f"{job.strategy}-{digest.hexdigest()[:16]}.jsonl"


def _known(file: Path) -> dict[int, list[Incumbent]]:
    """Replays on record, by seed."""
    if not file.exists():
        return {}
    lines = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    rows = [json.loads(line) for line in lines]
    return {row["seed"]: [Incumbent(*point) for point in row["points"]] for row in rows}


def _replayed(
    jobs: Sequence[Replay], args: argparse.Namespace
) -> dict[Replay, list[list[Incumbent]]]:
    """Each job's incumbents, by seed."""
    args.cache.mkdir(parents=True, exist_ok=True)
    files = {job: _kept(job, args) for job in jobs}
    known = {job: _known(file) for job, file in files.items()}
    seeds = range(args.repeats)
    missing = [(job, seed) for seed in seeds for job in jobs if seed not in known[job]]
    present = len(jobs) * args.repeats - len(missing)
    print(f"{present} replays on record, {len(missing)} to go", file=sys.stderr)
    started = told = time.monotonic()
    done = in_processes(partial(_replay, args=args), missing, args.workers_cpu)
    for count, ((job, seed), points) in enumerate(done, 1):
        known[job][seed] = points
        with files[job].open("a") as lines:
            lines.write(json.dumps({"seed": seed, "points": points}) + "\n")
        if (now := time.monotonic()) - told > 10:
            told, left = now, (now - started) / count * (len(missing) - count)
            print(
                f"{len(missing) - count} to go, about {left / 60:.0f} min: {job.title}, "
                f"{job.workers} workers, {job.strategy}",
                file=sys.stderr,
                flush=True,
            )
    return {job: [known[job][seed] for seed in seeds] for job in jobs}


def _results(
    replays: Mapping[Replay, list[list[Incumbent]]], args: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """By world, then workers, then strategy."""
    found: dict[str, dict[str, Any]] = {}
    for job in replays:
        world = make_world(job.file, job.world, args.cache)
        of_world = found.setdefault(job.title, {**world.describe(), "workers": {}})
        if str(job.workers) not in of_world["workers"]:
            alike = {
                other.strategy: points
                for other, points in replays.items()
                if (other.file, other.world, other.workers) == (job.file, job.world, job.workers)
            }
            compared = compare(alike, world.target, BASELINE, args.horizon)
            of_world["workers"][str(job.workers)] = compared
    return found


def main(argv: list[str] | None = None) -> int:
    own = parser()
    args: argparse.Namespace = own.parse_args(argv)
    for name in args.strategies:
        try:
            find_strategy(name, args.sampler)
        except KeyError:
            own.error(f"no strategy {name!r}; known: {', '.join(STRATEGIES)}")
    jobs = [
        Replay(file, world, strategy, workers)
        for file in args.files
        for world in args.worlds
        for workers in args.workers
        for strategy in dict.fromkeys((BASELINE, *args.strategies))
    ]
    results = _results(_replayed(jobs, args), args)
    print(markdown(results))
    if args.figure:
        write_figure(args.figure, draw_figure(results))
    scale = {name: getattr(args, name) for name in ("repeats", *SCALE)}
    write_json(args.json, {"worlds": results, "scale": scale, **environment("replay")})
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run(main)
