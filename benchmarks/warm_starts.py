"""Replayed warm starts: after how many epochs a study finds what one without a warm start finds.

For each pair of records and each seed a search (the product's) is replayed on the surrogate of one,
and a search on the other starts with its best configurations, or with its worst, as if misled.
Every epoch costs the same: trainings count, not the size of their networks.

    python -m benchmarks.warm_starts MNIST.jsonl.gz FASHION.jsonl.gz --repeats 10 --sampler tpe
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.samplers import BaseSampler

from benchmarks.curves import title
from benchmarks.prior import elsewhere, learn, load, written
from benchmarks.record import BenchmarkParser, environment, write_json
from benchmarks.replay_simulation import (
    Incumbent,
    SearchState,
    World,
    simulate,
)
from benchmarks.replay_strategies import find_strategy
from benchmarks.replay_surrogate import make_world
from search.sampling.earlier import FIRST
from search.sampling.forecast import fit
from search.terminal.commands import run

BUDGET, WORKERS = 0.2, 2
TARGETS = (2, 3, 5, 8)  # whole trainings; the cold search's loss after them is the target
KINDS = ("cold", "warm", "misled")


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_records()
    own.add_counts(("repeats", 10, "seeds"), ("trials", 50, "trials per search"))
    own.add("learn-from", "sampler", "json", "cache")
    return own


def search(
    world: World,
    seed: int,
    args: Any,
    prior: Path,
    first: Sequence[Mapping[str, Any]] = (),
) -> tuple[list[Incumbent], SearchState]:
    """Run one search; returns its incumbents and its final state."""
    ours, seen = find_strategy("ours", args.sampler), list[SearchState]()

    def sampler(progress: SearchState) -> BaseSampler:
        seen.append(progress)
        return ours.sampler(progress)

    strategy, scale = replace(ours, sampler=sampler), {"trials": args.trials, "budget": BUDGET}
    horizon = 1.5 * BUDGET * args.trials
    told: dict[str, Any] = {"horizon": horizon, "prior": prior, "first": first}
    told["clock"] = lambda _work: 1.0
    return simulate(strategy, world, seed, WORKERS, **scale, **told), seen[0]


def found_by(progress: SearchState, prior: Path) -> list[Mapping[str, Any]]:
    """A search's configurations, the best first, for a warm start of another."""
    known = [entry.contender() for entry in progress.entries if entry.state != "failed"]
    ends = fit(known, progress.spec.epochs, prior).estimates(known)
    best = sorted(ends, key=lambda number: (sum(ends[number]), number))
    return [progress.entries[number].params for number in best]


def reached(points: Sequence[Incumbent], loss: float, never: float) -> float:
    return next((point.compute for point in points if point.loss <= loss), never)


def loss_after(points: Sequence[Incumbent], compute: float) -> float:
    return next((one.loss for one in reversed(points) if one.compute <= compute), math.inf)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for before, file in permutations(args.files, 2):
        pair = f"{title(before)} -> {title(file)}"
        worlds = [make_world(one, "surrogate", args.cache) for one in (before, file)]
        known = [*args.files, *args.learn_from]
        others = [[load(it) for it in elsewhere(one, known)] for one in (before, file)]
        with written(learn(others[0])) as first, written(learn(others[1])) as prior:
            points: dict[str, list[list[Incumbent]]] = {kind: [] for kind in KINDS}
            for seed in range(args.repeats):
                _, progress = search(worlds[0], 1000 + seed, args, first)
                found = found_by(progress, first)
                begin = {"cold": [], "warm": found[:FIRST], "misled": found[-FIRST:]}
                for kind in KINDS:
                    points[kind].append(search(worlds[1], seed, args, prior, begin[kind])[0])
                print(f"{pair}: seed {seed}", file=sys.stderr, flush=True)
        results[pair] = {}
        print(f"{pair}, {args.repeats} seeds: whole trainings (of so many epochs) until the loss")
        print(f"that the search without a warm start has after {TARGETS} (median)")
        targets = [
            float(np.median([loss_after(one, target) for one in points["cold"]]))
            for target in TARGETS
        ]
        never = 1.5 * BUDGET * args.trials
        times = {
            kind: np.array([[reached(one, loss, never) for loss in targets] for one in of_kind])
            for kind, of_kind in points.items()
        }
        # With the same seeds, the differences vary less than the times themselves.
        times |= {f"{kind} - cold": times[kind] - times["cold"] for kind in KINDS[1:]}
        for kind, times_NT in times.items():
            errors = times_NT.std(0, ddof=1) / len(times_NT) ** 0.5
            row = list(zip(times_NT.mean(0).tolist(), errors.tolist(), strict=True))
            results[pair][kind] = row
            print(f"  {kind:13} ", *(f"{mean:+.2f} ± {error:.2f}" for mean, error in row))
    if args.json:
        made = environment("warm_starts")
        write_json(args.json, {"results": results, "targets": TARGETS, **made})
    return 0


if __name__ == "__main__":
    run(main)
