"""The overhead of a trial when many trials are present: ours, Optuna's loop, Ray Tune.

Each contender in turn runs trials that train nothing, on copies of databases that already hold the
same trials: the time from one trial's end to the next one's is the cost of asking, ten reports, ten
pruning decisions and telling. Ray Tune keeps trials in its own memory, so it starts with none.

    python -m benchmarks.coordination --json benchmarks/results/coordination.json
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from benchmarks import record
from benchmarks.coordinators import (
    EPOCHS,
    Ends,
    fill_optuna,
    fill_ours,
    make_spec,
    run_optuna,
    run_ours,
    run_ray,
)
from benchmarks.trials_present import distributions_of, make_up_trials
from search.terminal.commands import run
from search.training.device import prepare_process

OURS, RAY = "ours", "ray_asha"
TITLES = {
    OURS: "ours, promotion",
    "optuna_median": "Optuna, median",
    "optuna_hyperband": "Optuna, Hyperband",
    RAY: "Ray Tune, ASHA",
}
PRUNERS: Mapping[str, Callable[[], optuna.pruners.BasePruner]] = {
    "optuna_median": optuna.pruners.MedianPruner,
    "optuna_hyperband": partial(
        optuna.pruners.HyperbandPruner, min_resource=1, max_resource=EPOCHS, reduction_factor=3
    ),
}
PRESENT, TRIALS, ROUNDS = [100, 1000, 10_000], 12, 3
MEASURED = ("milliseconds", "cpu_milliseconds", "start_seconds")
WARM_UP = 2  # trials that are not counted: they read the trials present

Rounds = dict[str, dict[int, list[Ends]]]  # by contender and number of trials present


def parser() -> record.BenchmarkParser:
    own = record.BenchmarkParser(__doc__)
    own.add_counts(("trials", PRESENT, "already present"), ("rounds", ROUNDS, "of all contenders"))
    own.add("json")
    return own


def measure(present: Sequence[int], rounds: int, folder: Path, *, with_ray: bool) -> Rounds:
    found: Rounds = {name: {} for name in TITLES if name != RAY or with_ray}
    for count in present:
        made_up = make_up_trials(make_spec(count), count)
        fill_ours(folder / f"ours-{count}.db", made_up, TRIALS)
        fill_optuna(folder / f"optuna-{count}.db", made_up)
    for _ in range(rounds):
        for count in present:
            for name, contender in found.items():
                if name != RAY:
                    contender.setdefault(count, []).append(_one_round(name, count, folder))
        if with_ray:
            found[RAY].setdefault(0, []).append(run_ray(TRIALS))
    return found


def _one_round(name: str, present: int, folder: Path) -> Ends:
    """Each round starts with the same trials, and ends before its own make a difference."""
    kind = "ours" if name == OURS else "optuna"
    with tempfile.TemporaryDirectory(dir=folder) as place:
        copy = Path(place, "studies.db")
        shutil.copy(folder / f"{kind}-{present}.db", copy)
        if name == OURS:
            return run_ours(copy, TRIALS)
        return run_optuna(copy, TRIALS, present, PRUNERS[name]())


def figures(rounds: Sequence[Ends]) -> dict[str, Any]:
    """One contender's results with so many trials present: each round's median over its trials."""
    found = {
        "milliseconds": record.spread([_milliseconds(ends.seconds) for ends in rounds]),
        "start_seconds": record.spread([ends.seconds[0] - ends.started for ends in rounds]),
    }
    if rounds[0].cpu_seconds:
        found["cpu_milliseconds"] = record.spread([_milliseconds(e.cpu_seconds) for e in rounds])
    return found


def _milliseconds(ends: Sequence[float]) -> float:
    later, earlier = ends[WARM_UP:], ends[WARM_UP - 1 :]
    return 1000 * statistics.median(b - a for a, b in zip(earlier, later, strict=False))


def summary(found: Rounds) -> dict[str, Any]:
    contenders = {
        name: {str(present): figures(rounds) for present, rounds in by_present.items()}
        for name, by_present in found.items()
    }
    ratios = {
        name: {
            present: record.spread(
                [
                    theirs / ours
                    for theirs, ours in zip(
                        of["milliseconds"]["rounds"],
                        contenders[OURS][present]["milliseconds"]["rounds"],
                        strict=True,
                    )
                ]
            )
            for present, of in by_present.items()
            if present in contenders[OURS]
        }
        for name, by_present in contenders.items()
        if name not in (OURS, RAY)
    }
    return {"contenders": contenders, "ratio_to_ours": ratios}


def show(result: Mapping[str, Any]) -> None:
    rows = []
    for name, by_present in result["contenders"].items():
        for present, of in by_present.items():
            ratio = result["ratio_to_ours"].get(name, {}).get(present)
            cells = [record.in_words(of[it], ".1f") if it in of else "-" for it in MEASURED]
            factor = "" if ratio is None else f"{record.in_words(ratio, '.1f')} x"
            rows.append((TITLES[name], present, *cells, factor))
    record.show_table(
        f"{result['parameters']} parameters, {EPOCHS} reports; median of {result['rounds']} rounds "
        "(lowest to highest)",
        ("contender", "present", "ms a trial", "CPU ms", "start s", "ours is faster by"),
        rows,
        [*(f"skipped: {line}" for line in result["skipped"]), result["hardware"]],
    )


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = parser().parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    prepare_process(threads=1)  # as our workers start; the same for all contenders
    with_ray = record.ray_version() is not None
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.trials, args.rounds, Path(folder), with_ray=with_ray)
    result = {
        **summary(found),
        "parameters": len(distributions_of(make_spec(1))),
        "reports": EPOCHS,
        "trials_a_round": TRIALS - WARM_UP,
        "rounds": args.rounds,
        "skipped": [] if with_ray else [record.NO_RAY],
        **record.environment("coordination"),
    }
    show(result)
    record.write_json(args.json, result)
    return 0


if __name__ == "__main__":
    run(main)
