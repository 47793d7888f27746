"""What share of its workers' time a study did not spend on training, read from its reports.

The time between two reports of a worker consists of the second one's training and the rest: ending
a trial, its pictures, claiming and sampling the next one, writing. A trial that was paused inside
its first epoch has no checkpoint and starts that epoch again when it resumes; this is reported
separately. For studies whose workers train one trial at a time, as on a CPU.

    python -m search.study --study s
    python -m benchmarks.share --study s
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from benchmarks.record import BenchmarkParser, environment, write_json
from search import load_study
from search.store.records import EpochRow
from search.terminal.commands import run


class Share(NamedTuple):
    """Seconds summed over workers, from each one's first report to its last; claims in between."""

    total: float
    beside: float
    begun_again: float
    claims: int

    def __str__(self) -> str:
        return (
            f"{self.beside / self.total:.2%} not training, {self.begun_again / self.total:.2%} "
            f"on restarted epochs, of {self.total:.0f} s; "
            f"{self.beside / max(1, self.claims):.3f} s per claim"
        )


def share(rows: Iterable[EpochRow]) -> Share:
    by_worker = defaultdict[str, list[EpochRow]](list)
    for row in sorted(rows, key=lambda it: it.reported_at):
        by_worker[row.worker].append(row)
    total = beside = begun_again = 0.0
    claims = 0
    for of_worker in by_worker.values():
        total += of_worker[-1].reported_at - of_worker[0].reported_at
        for before, after in pairwise(of_worker):
            rest = after.reported_at - after.seconds - before.reported_at
            was_claimed = after.trial_number != before.trial_number
            claims += was_claimed
            if was_claimed and after.epoch == 1:
                begun_again += rest
            else:
                beside += rest
    return Share(total, beside, begun_again, claims)


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add("study", "storage", "json")
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    view = load_study(args.study, storage=args.storage)
    found = share(row for trial in view.trials for row in trial.reports)
    print(found)
    write_json(args.json, {**found._asdict(), **environment("share")})
    return 0


if __name__ == "__main__":
    run(main)
