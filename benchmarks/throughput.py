"""How fast networks train: ours, the DataLoader style and Ray Tune, in one run.

Every contender trains the same network with the same recipe on the same images. Each gets a turn in
every round, so that other load on the machine affects all alike; the results are medians over the
rounds, with minimum and maximum. A turn is at least one whole epoch, then one validation, timed
separately; building the network, starting loaders and recording CUDA graphs are not timed. With all
images a round takes about ten minutes on two cores.

    python -m benchmarks.throughput --json benchmarks/results/throughput.json
    python -m benchmarks.throughput --quick         # a quick try: fewer images, two rounds
    python -m benchmarks.throughput --contenders ours_alone dataloader_0 dataloader_2
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from benchmarks import record
from benchmarks.bound import Rates, measured_rates, training_cost
from benchmarks.contender_workers import (
    ContenderWorkers,
    Rounds,
    Speed,
    column_summary,
    ratios,
    ray_speed,
    speed,
)
from benchmarks.contenders import Contender, contenders
from benchmarks.ray_tune import time_ray
from benchmarks.workload import AUGMENTATION, NETWORKS, Workload, recipe
from models.summary import count_parameters
from search.terminal.commands import run
from search.training.device import choose_device
from search.training.task import Task

LEAST_SECONDS = 2.0  # of training per turn: short epochs are repeated
ROUNDS = 5
QUICK_LIMIT, QUICK_ROUNDS = 6400, 2


class Column(NamedTuple):
    """What is trained in one table of the result."""

    name: str
    title: str
    network: str
    augmented: bool


# The first is the one that `ratio_vs_dataloader` is about.
COLUMNS = (
    Column("small_augmented", f"[32, 64], {AUGMENTATION}", "small", augmented=True),
    Column("small_plain", "[32, 64], no augmentation", "small", augmented=False),
    Column(
        "typical_augmented", f"[24, 48, 96], batch norm, {AUGMENTATION}", "typical", augmented=True
    ),
)


def parser() -> record.BenchmarkParser:
    own = record.BenchmarkParser(__doc__)
    own.add_counts(("rounds", None, f"of all contenders (default: {ROUNDS})"))
    only = "only these, by their names in the JSON (default: all that make sense on this machine)"
    own.add_argument("--contenders", nargs="+", metavar="NAME", help=only)
    quick = f"--limit {QUICK_LIMIT} --rounds {QUICK_ROUNDS}"
    own.add_argument("--quick", action="store_true", help=quick)
    own.add("dataset", "limit", "json", "device", "data-dir")
    return own


def measure(
    who: Sequence[Contender],
    jobs: Mapping[str, Workload],
    *,
    rounds: int,
    least_seconds: float,
) -> tuple[dict[str, Rounds], list[Rates]]:
    """Every contender's speeds at every job, and the GPU's rates if there is one, by round.

    Ray Tune takes part only in the first job: it takes as long as all the others together.
    """
    speeds: dict[str, dict[str, list[Speed]]] = {name: {} for name in jobs}
    rates = []
    with ExitStack() as stack:
        pools = {
            contender.name: stack.enter_context(closing(ContenderWorkers(contender, least_seconds)))
            for contender in who
            if contender.style != "ray"
        }
        for number in range(1, rounds + 1):
            for place, (name, job) in enumerate(jobs.items()):
                device = torch.device(job.device)
                if place == 0 and device.type == "cuda":
                    rates.append(measured_rates(device))
                for contender in who:
                    if contender.style != "ray":
                        found = speed(pools[contender.name].time(job), contender.at_once)
                    elif place == 0:
                        found = ray_speed(time_ray(contender, job), contender.processes)
                    else:
                        continue
                    speeds[name].setdefault(contender.name, []).append(found)
                    print(
                        f"round {number} of {rounds}, {name}, {contender.title}: "
                        f"{found.images_per_second:,.0f} images/s",
                        file=sys.stderr,
                    )
    return dict(speeds), rates


def bound_fractions(
    rounds: Rounds, rates: Sequence[Rates], column: Column, task: Task
) -> dict[str, Any]:
    """Our images per second times the shortest seconds per image at the rates of that round."""
    batch_size, network = recipe(augmented=column.augmented).batch_size, NETWORKS[column.network]
    cost = training_cost(network, task.image_shape, task.classes, batch_size=batch_size)
    return {
        name: record.spread(
            [s.images_per_second * cost.seconds(r) for s, r in zip(speeds, rates, strict=True)]
        )
        for name, speeds in rounds.items()
        if name.startswith("ours") and rates
    }


def summary(
    speeds: Mapping[str, Rounds], rates: Sequence[Rates], who: Sequence[Contender], task: Task
) -> dict[str, Any]:
    """The result as in the JSON, without the environment."""
    columns: dict[str, Any] = {}
    for column in COLUMNS:
        rounds = speeds[column.name]
        architecture = NETWORKS[column.network]
        columns[column.name] = {
            "title": column.title,
            "parameters": count_parameters(architecture, task.image_shape, task.classes),
            **column_summary(rounds),
            "ratios": ratios(rounds, who),
            "fraction_of_bound": bound_fractions(rounds, rates, column, task),
        }
    return {
        "ratio_vs_dataloader": columns[COLUMNS[0].name]["ratios"]["vs_dataloader"]["median"],
        "columns": columns,
        "contenders": {contender.name: asdict(contender) for contender in who},
        "gpu_rates": [asdict(rate) for rate in rates],
        "data": {
            "dataset": task.info.title,
            "training_images": len(task.training),
            "validation_images": len(task.validation),
        },
    }


def show(result: dict[str, Any]) -> None:
    """The result as tables on standard output, one for each column."""
    data, kinds = result["data"], {"ratios": "ratio", "fraction_of_bound": "fraction of the bound"}
    for column in result["columns"].values():
        record.show_table(
            f"{column['title']}: {column['parameters']:,} parameters, "
            f"{data['training_images']:,} images of {data['dataset']}",
            ("", "images/s", "epoch-trials/h"),
            [
                (
                    result["contenders"][name]["title"],
                    record.in_words(images, ",.0f"),
                    f"{column['epoch_trials_per_hour'][name]['median']:,.0f}",
                )
                for name, images in column["images_per_second"].items()
            ],
            [
                f"{title}, {name}: {record.in_words(of)}, {len(of['rounds'])} rounds"
                for kind, title in kinds.items()
                for name, of in column[kind].items()
            ],
        )
    for reason in result["skipped"]:
        print(f"skipped: {reason}")
    print(f"{result['hardware']}; commit {result['commit']}")


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    args.limit = args.limit or (QUICK_LIMIT if args.quick else None)
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    device = choose_device(args.device)
    jobs = {
        column.name: Workload.of(args, device, column.network, augmented=column.augmented)
        for column in COLUMNS
    }
    task = jobs[COLUMNS[0].name].task(torch.device("cpu"))
    who, skipped = contenders(device), []
    if unknown := set(args.contenders or ()) - {contender.name for contender in who}:
        parser().error(
            f"argument --contenders: not on this machine: {', '.join(sorted(unknown))}; "
            f"choose from {', '.join(contender.name for contender in who)}"
        )
    if args.contenders:
        who = [contender for contender in who if contender.name in args.contenders]
    if record.ray_version() is None:
        who = [contender for contender in who if contender.style != "ray"]
        skipped.append(record.NO_RAY)
    speeds, rates = measure(who, jobs, rounds=rounds, least_seconds=LEAST_SECONDS)
    made = record.environment("throughput", device)
    result = {**summary(speeds, rates, who, task), "skipped": skipped, **made}
    show(result)
    record.write_json(args.json, result)
    return 0


if __name__ == "__main__":
    run(main)
