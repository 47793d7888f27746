"""What `torch.compile` costs and brings, which training does not use: beside the same without it.

    python -m benchmarks.compiled --json benchmarks/results/compiled.json

The networks of the throughput benchmark are trained by the same code, with and without
`torch.nn.Module.compile`, in alternating rounds. Nothing is taken from the compiler's cache on
disk: in a search every network has a shape of its own.
"""

from __future__ import annotations

import os

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # read when torch is imported

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from benchmarks.arguments import BenchmarkParser
from benchmarks.record import environment, spread, write_json
from benchmarks.workload import NETWORKS, Job, recipe, without_validation
from search.terminal.commands import run
from search.training.device import choose_device, prepare_process
from search.training.task import Task
from search.training.train import train

ROUNDS, EPOCHS, LIMIT = 3, 4, 12_800


class EpochSeconds(NamedTuple):
    """first: seconds of the first epoch, with what is done only once; later: of the median one."""

    first: float
    later: float

    @property
    def once(self) -> float:
        return self.first - self.later


def parser() -> BenchmarkParser:
    own = BenchmarkParser(
        description="What torch.compile would cost a trial, and how long a trial must be to gain "
        "by it. About five minutes on two cores.",
        examples="python -m benchmarks.compiled --rounds 1",
    )
    own.add_counts((("rounds", ROUNDS, "of each"), ("limit", LIMIT, "images of an epoch")))
    own.add("dataset", "json", "device", "data-dir")
    return own


def timed(network: str, task: Task, *, compiled: bool) -> EpochSeconds:
    """Train for a few epochs, without validation, and time each."""
    torch.compiler.reset()
    plain = replace(recipe(augmented=True), weight_averaging=0.0)  # the model is what learns
    training = train(NETWORKS[network], plain, task, seed=0)
    if compiled:
        training.model.compile()
    seconds = [next(training).seconds for _ in range(EPOCHS)]
    training.close()
    return EpochSeconds(seconds[0], statistics.median(seconds[1:]))


def compare(rounds: Sequence[tuple[EpochSeconds, EpochSeconds]], images: int) -> dict[str, Any]:
    """Of (without, with) in each round. Epochs to gain are of 50 000 images; None: never."""
    scale = 50_000 / images
    gains = [
        (with_.once - without.once) / (scale * (without.later - with_.later))
        if with_.later < without.later
        else None
        for without, with_ in rounds
    ]
    known = [gain for gain in gains if gain is not None]
    return {
        "speed_ratio": spread([without.later / with_.later for without, with_ in rounds]),
        "compile_seconds": spread([with_.once - without.once for without, with_ in rounds]),
        "epochs_to_gain": spread(known) if len(known) == len(gains) else None,
    }


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = parser().parse_args(argv)
    prepare_process(threads=1)  # as our workers on a CPU have it
    device = choose_device(args.device)
    found = {}
    for network in NETWORKS:
        task = without_validation(Job.of(args, device, network).task(device))
        rounds = [
            (timed(network, task, compiled=False), timed(network, task, compiled=True))
            for _ in range(args.rounds)
        ]
        found[network] = of = compare(rounds, len(task.training))
        ratio, seconds, epochs = (
            of[name] for name in ("speed_ratio", "compile_seconds", "epochs_to_gain")
        )
        print(
            f"{network}: torch.compile makes steps {ratio['median']:.2f} times as fast "
            f"({ratio['min']:.2f} to {ratio['max']:.2f}) and costs {seconds['median']:.0f} s "
            f"({seconds['min']:.0f} to {seconds['max']:.0f}) a network; it pays "
            + ("never" if epochs is None else f"after {epochs['median']:.1f} epochs of 50 000")
        )
    result = {"networks": found, "rounds": args.rounds, **environment("compiled", device)}
    if args.json:
        write_json(args.json, result)
    return 0


if __name__ == "__main__":
    run(main)
