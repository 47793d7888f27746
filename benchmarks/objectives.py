"""Which value a search should choose by: raw loss, calibrated loss or error, on recorded curves.

    python -m benchmarks.objectives RECORD.jsonl.gz ...

Each training of a record is taken at the epoch with the lowest value, as a search would, and judged
by its error on images that were held out of the search (see `benchmarks.curves`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from benchmarks.curves import title
from benchmarks.record import BenchmarkParser
from benchmarks.replay_simulation import SEEN, RecordedRun
from benchmarks.replay_worlds import read_runs
from search.terminal.commands import run

DRAWS = 2000


def judge(runs: Sequence[RecordedRun], objective: str) -> tuple[float, float, float]:
    """Rank correlation of a training's lowest value with its held-out error there; mean and
    standard deviation of the held-out error of the best of a random half of the trainings."""
    lowest, errors = [], []
    for one in runs:
        values = np.where(np.array(one.epochs) > 0, one.seen[objective], np.inf)
        if np.isfinite(values[1:]).all():
            best = int(values.argmin())
            lowest.append(values[best])
            errors.append(one.hidden[best].error)
    rng = np.random.default_rng(0)
    chosen = []
    for _ in range(DRAWS):
        drawn = rng.choice(len(lowest), len(lowest) // 2, replace=False)
        chosen.append(errors[min(drawn, key=lambda index: lowest[index])])
    return float(spearmanr(lowest, errors)[0]), float(np.mean(chosen)), float(np.std(chosen))


def main(argv: list[str] | None = None) -> int:
    parser = BenchmarkParser(__doc__)
    parser.add_records()
    args = parser.parse_args(argv)
    print("| record | trainings | lowered | rank correlation with held-out error | chosen: error |")
    print("|---|---|---|---|---|")
    for file in args.files:
        runs = read_runs(file)
        if len(runs) < 10:
            continue
        for objective in SEEN:
            rank, mean, sd = judge(runs, objective)
            chosen = f"{100 * mean:.2f} ± {100 * sd:.2f} %"
            print(f"| {title(file)} | {len(runs)} | {objective} | {rank:.3f} | {chosen} |")
    return 0


if __name__ == "__main__":
    run(main)
