"""Replayed searches for a Pareto front: hypervolume by epochs trained, ours and Optuna's samplers.

Each search minimises the calibrated validation loss and the number of parameters, on the surrogate
of a record (`benchmarks.replay_surrogate`), one training at a time. Ours pauses trials; the others
train all to the end, because Optuna cannot prune with several objectives. Only whole trainings are
points of a front. It is chosen by validation, but its hypervolume uses the same trainings' losses
on images that no search sees, in logarithms of both, up to the largest network of the space and the
median loss of random configurations, as a share of the hypervolume of 2 000 of those together.

    python -m benchmarks.pareto benchmarks/results/curves/digits.jsonl.gz --repeats 10
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from benchmarks.curves import data_set
from benchmarks.prior import elsewhere, learn, load, written
from benchmarks.record import REPLAYS, BenchmarkParser, environment, in_processes, write_json
from benchmarks.replay_simulation import CALIBRATED, RecordedRun
from benchmarks.replay_surrogate import Surrogate, image_shape_of, make_world, network_sizes
from search.sampling import halving, promotion
from search.sampling.forecast import Contender
from search.sampling.sampler import StudySampler
from search.spec.space import distributions
from search.terminal.commands import run

RANDOM = 2000  # configurations whose hypervolume counts as the whole
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)  # of trials x epochs, after which the searches are compared
OTHERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
    "tpe": lambda seed: TPESampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
}


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_records()
    known = ["ours-gp", "ours-tpe", *OTHERS]
    own.add_argument("--strategies", nargs="+", choices=known, default=known, metavar="NAME")
    own.add_argument("--budget", type=float, default=0.2, help="for ours (default: 0.2)")
    own.add_counts(
        ("repeats", 10, "seeds"),
        ("trials", 100, "per search"),
        ("workers-cpu", 1, "processes of this command"),
    )
    own.add("learn-from", "json")
    return own


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A whole training: the loss that a search saw, and its loss on held-out images."""

    size: float  # logarithms, all three
    seen: float
    hidden: float


class Problem:
    """A record's surrogate, and the hypervolume of fronts on it."""

    def __init__(self, file: Path, kept: Path) -> None:
        world = make_world(file, "surrogate", kept)
        assert isinstance(world, Surrogate)
        self.world, self.spec, self.space = world, world.spec, distributions(world.spec)
        self._shape = image_shape_of(file)
        draws = optuna.create_study(sampler=RandomSampler(seed=0))
        params = [draws.ask(self.space).params for _ in range(RANDOM)]
        runs = world.runs(params, np.random.default_rng(0))
        points = [self.point(found) for found in runs]
        self.largest = max(point.size for point in points)
        self.worst = float(np.median([point.hidden for point in points]))
        self._whole = self._area(points)

    def size(self, params: Mapping[str, Any]) -> int:
        return network_sizes(params, self.spec, self._shape)["parameters"]

    def point(self, found: RecordedRun) -> FrontPoint:
        """At its best epoch."""
        seen = found.seen[CALIBRATED]
        best = min(range(1, len(seen)), key=lambda at: seen[at])
        size = math.log(self.size(found.params))
        return FrontPoint(size, math.log(seen[best]), math.log(found.hidden[best].loss))

    def hypervolume(self, points: Sequence[FrontPoint]) -> float:
        return self._area(points) / self._whole

    def _area(self, points: Sequence[FrontPoint]) -> float:
        lowest, area, worst = math.inf, 0.0, self.worst
        for one in sorted(points, key=lambda it: (it.size, it.seen)):
            if one.seen < lowest:  # on the front as the search sees it
                lowest = one.seen
                area += max(worst - one.hidden, 0.0) * max(self.largest - one.size, 0.0)
                worst = min(worst, one.hidden)
        return area


@cache
def problem(file: Path) -> Problem:
    return Problem(file, REPLAYS)


def ours(
    of: Problem, seed: int, sampler: str, trials: int, budget: float, prior: Path | None
) -> Iterator[tuple[float, FrontPoint]]:
    """(epochs spent, point) of each trial that is trained to its end."""
    spec = replace(of.spec, seed=seed, trials=trials, sampler=sampler, minimize_also="parameters")
    study = optuna.create_study(sampler=StudySampler(spec, prior))
    source, rungs = of.world.source(seed), halving.rungs(spec.epochs)
    runs, begun, known = list[RecordedRun](), list[optuna.Trial](), list[Contender]()
    limits: dict[str, Any] = {"trials": trials, "epochs": spec.epochs, "prior": prior}
    limits["budget"] = budget * trials * spec.epochs
    while (number := promotion.choose(known, **limits)) is not None:
        if number == "new":
            trial = study.ask(of.space)
            number, found = trial.number, source.take(trial.params)
            size = of.size(found.params)
            trial.set_user_attr("parameters", size)
            begun.append(trial)
            runs.append(found)
            new: Any = {"number": number, "params": found.params, "recorded": found.params}
            new |= {"size": math.log(size), "work": found.work}
            known.append(Contender(state="paused", curve={}, **new))
        found, curve = runs[number], dict(known[number].curve)
        while True:
            epoch = found.epochs[len(curve)]
            curve[epoch] = found.seen[CALIBRATED][len(curve)]
            begun[number].report(curve[epoch], epoch)
            if epoch in rungs or epoch == spec.epochs:
                break
        known[number] = replace(known[number], curve=curve)
        if epoch == spec.epochs:
            known[number] = replace(known[number], state="complete")
            study.tell(begun[number], min(curve.values()))
            yield sum(one.epochs for one in known), of.point(found)


def others(of: Problem, seed: int, name: str, trials: int) -> Iterator[tuple[float, FrontPoint]]:
    """The same for an Optuna sampler with both objectives."""
    directions = [optuna.study.StudyDirection.MINIMIZE] * 2
    study = optuna.create_study(directions=directions, sampler=OTHERS[name](seed))
    source = of.world.source(seed)
    for count in range(1, trials + 1):
        trial = study.ask(of.space)
        found = of.point(source.take(trial.params))
        study.tell(trial, [found.seen, found.size])
        yield count * float(of.spec.epochs), found


def search(
    job: tuple[str, int], file: Path, trials: int, budget: float, prior: Sequence[Path]
) -> list[tuple[float, float]]:
    """(epochs, hypervolume) after each whole training."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    torch.set_num_threads(1)
    name, seed = job
    of, points, found = problem(file), list[FrontPoint](), list[tuple[float, float]]()
    with written(learn([load(it) for it in prior])) as learned:
        ended = (
            ours(of, seed, name.removeprefix("ours-"), trials, budget, learned)
            if name.startswith("ours-")
            else others(of, seed, name, trials)
        )
        for epochs, point in ended:
            points.append(point)
            found.append((epochs, of.hypervolume(points)))
    return found


def at(found: Sequence[tuple[float, float]], epochs: float) -> float:
    return next((volume for when, volume in reversed(found) if when <= epochs), 0.0)


def until(found: Sequence[tuple[float, float]], volume: float) -> float:
    return next((when for when, it in found if it >= volume), math.inf)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    results: dict[str, Any] = {}
    for file in args.files:
        known = elsewhere(file, (*args.files, *args.learn_from))
        found: dict[str, dict[int, list[tuple[float, float]]]] = {it: {} for it in args.strategies}
        jobs = [(name, seed) for seed in range(args.repeats) for name in args.strategies]
        scale = {"trials": args.trials, "budget": args.budget}
        one = partial(search, file=file, **scale, prior=known)
        for (name, seed), grown in in_processes(one, jobs, args.workers_cpu):
            found[name][seed] = grown
            done = sum(map(len, found.values()))
            print(f"{file.name}: {done} of {len(jobs)}", file=sys.stderr, flush=True)
        whole = args.trials * problem(file).spec.epochs
        results[data_set(file)] = rows = {}
        after = ", ".join(str(round(share * whole)) for share in SHARES)
        print(f"\n{data_set(file)}, {args.repeats} seeds: hypervolume after {after} epochs, and")
        print("epochs until the hypervolume that the first has when its budget is spent (median)")
        aim = None
        for name, by_seed in found.items():
            runs = [by_seed[seed] for seed in range(args.repeats)]
            shares = {}
            for share in SHARES:
                volumes = [at(one, share * whole) for one in runs]
                error = float(np.std(volumes, ddof=1) / len(volumes) ** 0.5)
                shares[str(round(share * whole))] = [float(np.mean(volumes)), error]
            aim = aim or float(np.mean([at(one, 1.05 * args.budget * whole) for one in runs]))
            median = float(np.median([until(one, aim) for one in runs]))
            rows[name] = {
                "hypervolume": shares,  # by epochs: mean, standard error
                "epochs_until": median if math.isfinite(median) else None,
            }
            told = "  ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in shares.values())
            print(f"  {name:9} {told}  {median:.0f}")
    write_json(args.json, {"results": results, **environment("pareto")})
    return 0


if __name__ == "__main__":
    run(main)
