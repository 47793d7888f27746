"""How far below its random start a default study could end, on recorded curves.

    python -m benchmarks.headroom fashion_mnist-50000.jsonl.gz

For each seed, the ten configurations that the default study would begin with, as its sampler draws
them, are trained to their ends on the record's surrogate (see `benchmarks.replay_surrogate`), and
then many random ones of the same space. The difference between the lowest losses is what random
search would gain over that start with so many whole trainings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler

from benchmarks.curves import data_set, title
from benchmarks.record import BenchmarkParser, show_table
from benchmarks.replay_simulation import CALIBRATED, RecordedRun
from benchmarks.replay_surrogate import Surrogate, make_world
from search.sampling.priors import as_recorded, prior_for, recorded_parameters
from search.sampling.registry import STARTUP_TRIALS
from search.sampling.sampler import StudySampler
from search.spec.config import StudySpec
from search.spec.space import distributions
from search.spec.study_file import find_study_file, read_study_file
from search.terminal.commands import run

MARGINS = (0.0025, 0.005, 0.01)  # of the loss


def gains(file: Path, kept: Path, *, seeds: int, others: int) -> list[tuple[float, float]]:
    """For each seed the lowest loss of the start, and how much lower that of the others is."""
    world = make_world(file, "surrogate", kept)
    assert isinstance(world, Surrogate)
    fields = {"dataset": data_set(file), **read_study_file(find_study_file("default"))}
    return [_gain(world, StudySpec(**{**fields, "seed": seed}), others) for seed in range(seeds)]


def _gain(world: Surrogate, spec: StudySpec, others: int) -> tuple[float, float]:
    usual, space = recorded_parameters(spec), distributions(spec)
    rng = np.random.default_rng(spec.seed)

    def lowest(sampler: BaseSampler, count: int) -> float:
        study = optuna.create_study(sampler=sampler)
        drawn = [as_recorded(study.ask(space).params, usual) for _ in range(count)]
        return min(map(value, world.runs(drawn, rng)))

    started = lowest(StudySampler(spec, prior_for(spec.dataset)), STARTUP_TRIALS)
    return started, started - lowest(RandomSampler(seed=spec.seed), others)


def value(trained: RecordedRun) -> float:
    """The objective of a training: its lowest calibrated loss after a whole epoch."""
    seen = trained.seen[CALIBRATED]
    return min(loss for loss, epoch in zip(seen, trained.epochs, strict=True) if epoch)


def in_words(values: Sequence[float]) -> str:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{median:.4f} ({low:.4f} to {high:.4f})"


def row(file: Path, found: Iterable[tuple[float, float]]) -> list[str]:
    started, gained = zip(*found, strict=True)
    shares = [f"{np.mean([gain >= margin for gain in gained]):.0%}" for margin in MARGINS]
    return [title(file), in_words(started), in_words(gained), *shares]


def main(argv: list[str] | None = None) -> int:
    parser = BenchmarkParser(__doc__)
    parser.add_records()
    parser.add_counts(("seeds", 40, "studies"), ("others", 500, "random ones to compare with"))
    parser.add("cache")
    args = parser.parse_args(argv)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    show_table(
        f"lowest calibrated loss of {STARTUP_TRIALS} first configurations, and how much lower that "
        f"of {args.others} random ones is; medians (quartiles) of {args.seeds} seeds",
        ("record", "start", "lower by", *(f"by {margin} or more" for margin in MARGINS)),
        [
            row(file, gains(file, args.cache, seeds=args.seeds, others=args.others))
            for file in args.files
        ],
    )
    return 0


if __name__ == "__main__":
    run(main)
