"""What `finalize --candidates` gains, on configurations that were recorded with many seeds.

    python -m benchmarks.candidates digits.jsonl.gz

A draw simulates a study: some of the configurations, all with the same seed. The single best has
the lowest calibrated validation loss. Then the best K get fresh seeds, the same for each, stopped
at the epoch at which each was best, and the lowest mean wins, as in the command without
`final_stretch`. Both choices are judged on images held out of the search, over the seeds that
neither has seen. The intervals say how much the mean would vary with other configurations, not with
the number of draws.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.curves import read
from benchmarks.record import BenchmarkParser, record_file
from search.terminal.commands import run

LOOKED_AT = "calibrated_validation_loss"
JUDGED_BY = ("calibrated_holdout_loss", "holdout_error")
CHOICES = ((3, 2), (3, 3), (5, 2), (5, 3))  # candidates, fresh seeds
By = Mapping[int, Mapping[int, list[dict[str, Any]]]]  # reports by configuration and seed


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    seeded = "from benchmarks.curves, with seeds"
    own.add_argument("record", type=record_file, metavar="FILE", help=seeded)
    own.add_counts(("draws", 300, "studies"), ("trials", 30, "configurations per study"))
    own.add_counts(("resamples", 1000, "of the configurations, for the intervals"))
    return own


def with_all_seeds(file: Path) -> By:
    """The configurations with the maximum number of seeds, all of whose losses are finite."""
    found: dict[int, dict[int, list[dict[str, Any]]]] = defaultdict(dict)
    for one in read(file):
        reports = [report for report in one["reports"] if report["epoch"] > 0]
        if all(report[name] is not None for report in reports for name in (LOOKED_AT, *JUDGED_BY)):
            found[one["number"]][one["seed"]] = reports
    most = max(map(len, found.values()), default=0)
    return {number: seeds for number, seeds in found.items() if len(seeds) == most}


def draw(by: By, trials: int, random: np.random.Generator) -> dict[tuple[int, int], list[float]]:
    """By (candidates, fresh seeds): the winner's mean of each of JUDGED_BY minus the single best's;
    (1, 0) has the single best's own."""
    numbers = [int(number) for number in random.choice(sorted(by), trials, replace=False)]
    of_study, *others = (int(seed) for seed in random.permutation(sorted(by[numbers[0]])))
    at: dict[int, int] = {}  # index of the best epoch
    lowest: dict[int, float] = {}
    for number in numbers:
        values = [report[LOOKED_AT] for report in by[number][of_study]]
        at[number], lowest[number] = int(np.argmin(values)), min(values)
    board = sorted(numbers, key=lowest.__getitem__)

    def mean(number: int, name: str, over: list[int]) -> float:
        return float(np.mean([by[number][seed][at[number]][name] for seed in over]))

    found = {(1, 0): [mean(board[0], name, others) for name in JUDGED_BY]}
    for candidates, fresh in CHOICES:
        shared, judges = others[:fresh], others[fresh:]
        winner = min(board[:candidates], key=lambda it: mean(it, LOOKED_AT, shared))
        found[candidates, fresh] = [
            mean(winner, name, judges) - mean(board[0], name, judges) for name in JUDGED_BY
        ]
    return found


def mean_of_draws(by: By, trials: int, draws: int) -> NDArray[np.float64]:
    """The mean of `draw`, a row for the single best and one for each of CHOICES."""
    found = [draw(by, trials, np.random.default_rng(number)) for number in range(draws)]
    means: NDArray[np.float64] = np.mean([list(one.values()) for one in found], axis=0)
    return means


def resampled(by: By, number: int) -> By:
    """As many configurations, drawn with replacement (a bootstrap)."""
    drawn = np.random.default_rng(number).choice(sorted(by), len(by))
    return {place: by[int(one)] for place, one in enumerate(drawn)}


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = parser().parse_args(argv)
    by = with_all_seeds(args.record)
    seeds = len(next(iter(by.values()), {}))
    if len(by) < args.trials or seeds < 2 + max(fresh for _, fresh in CHOICES):
        raise SystemExit(
            f"{args.record} has {len(by)} configurations with {seeds} seeds; record more seeds "
            f"with python -m benchmarks.curves {args.record} --seeds 6"
        )
    single, *gained = mean_of_draws(by, args.trials, args.draws)
    others = [
        mean_of_draws(resampled(by, number), args.trials, args.draws)[1:]
        for number in range(args.resamples)
    ]
    low, high = np.percentile(others, (2.5, 97.5), axis=0)
    print(
        f"{len(by)} configurations, {seeds} seeds; {args.draws} studies of {args.trials}. The "
        f"single best: held-out loss {single[0]:.4f}, error {100 * single[1]:.2f} %\n"
    )
    print("| candidates | fresh seeds | held-out loss | held-out error, points |")
    print("|---|---|---|---|")
    for (candidates, fresh), (loss, error), least, most in zip(
        CHOICES, gained, low, high, strict=True
    ):
        print(
            f"| {candidates} | {fresh} | {loss:+.4f} ({least[0]:+.4f} to {most[0]:+.4f}) | "
            f"{100 * error:+.2f} ({100 * least[1]:+.2f} to {100 * most[1]:+.2f}) |"
        )
    print(
        "\nDifferences from the single best, mean over the studies (95 % interval from "
        f"{args.resamples} resamples of the configurations)."
    )
    return 0


if __name__ == "__main__":
    run(main)
