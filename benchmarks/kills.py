"""What killed workers cost: the wall time of a study with SIGKILLs over that of one without.

The kills are spread as in Ray Tune's release test of worker fault tolerance: there each of 16
nodes dies once in about 70 of its iterations (a check every 10 s with probability 0.03, iterations
of 60 to 90 s). So here: one of the workers at random, about once in 70 of the reports of all.

    python -m benchmarks.kills --json benchmarks/results/kills.json
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.arguments import BenchmarkParser
from benchmarks.record import ROOT, environment, spread, write_json
from search.store import StorageError
from search.store.opening import open_database
from search.store.records import EpochRow, epochs_of
from search.store.studies import require_study
from search.store.views import view_study
from search.terminal.commands import run
from search.training.device import choose_device

REPORTS_A_KILL = 70
STUDY = """\
[study]
trials = {trials}
epochs = 12
pruner = "none"

[space]
depth = 3
width = 24
learning_rate = {{ low = 1e-3, high = 1e-2, log = true }}
augmentation = "flip-crop-erase"
"""


def run_study(trials: int, workers: int, dice: random.Random | None) -> dict[str, Any]:
    """One study on digits from nothing to its end; with `dice`, workers are killed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "study.toml").write_text(STUDY.format(trials=trials))
        started = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "search.study", "--config", "study.toml"),
                *("--dataset", "digits", "--study", "s", "--workers", str(workers)),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"sqlite:///{folder}/studies.db"
        kills, seen = _kill_now_and_then(process, url, dice) if dice else (0, set())
        code = process.wait()
        seconds = time.monotonic() - started
        with closing(open_database(url, must_exist=True)) as db:
            view = view_study(require_study(db, "s"))
        rows = [row for trial in view.trials for row in trial.reports]
        lost = len(seen - {seen_report(row) for row in rows})
        assert code == 0, f"the study ended with exit code {code}"
        assert view.finished == trials, f"{view.finished} of {trials} trials finished"
        assert not view.in_state("running", "failed")
        assert lost == 0, f"{lost} reports that were there are missing"
        return {"seconds": seconds, "kills": kills, "reports": len(rows)}


def seen_report(row: EpochRow) -> tuple[int, int, float]:
    return row.trial_number, row.epoch, row.validation_loss


def _kill_now_and_then(
    process: subprocess.Popen[bytes], url: str, dice: random.Random
) -> tuple[int, set[tuple[int, int, float]]]:
    """The number of kills, and every report that was in the database at any time."""
    kills, due, seen = 0, dice.expovariate(1 / REPORTS_A_KILL), set()
    while process.poll() is None:
        time.sleep(0.1)
        with suppress(StorageError, KeyError), closing(open_database(url, must_exist=True)) as db:
            rows = epochs_of(db, db.optuna.get_study_id_from_name("s"))
            seen |= {seen_report(row) for row in rows}
        if len(seen) < due:
            continue
        found = psutil.Process(process.pid).children()
        if found:
            dice.choice(found).kill()
            kills += 1
            due += dice.expovariate(1 / REPORTS_A_KILL)
    return kills, seen


def parser() -> BenchmarkParser:
    own = BenchmarkParser(
        description="The wall time of a study whose workers are killed over that of one without.",
        examples="python -m benchmarks.kills --rounds 1",
    )
    counts = [("rounds", 3, "pairs of studies"), ("trials", 40, "of each study")]
    own.add_counts([*counts, ("workers", 4, "processes")])
    own.add("json")
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    dice, ratios, rounds = random.Random(0), [], []
    for number in range(args.rounds):
        plain = run_study(args.trials, args.workers, None)
        killed = run_study(args.trials, args.workers, dice)
        ratios.append(killed["seconds"] / plain["seconds"])
        rounds.append({"undisturbed": plain, "killed": killed})
        print(
            f"round {number + 1}: {plain['seconds']:.0f} s undisturbed, {killed['seconds']:.0f} s "
            f"with {killed['kills']} kills in {killed['reports']} reports: {ratios[-1]:.2f} x"
        )
    ratio = spread(ratios)
    print(f"median {ratio['median']:.2f} x, {ratio['min']:.2f} to {ratio['max']:.2f}")
    if args.json:
        made = environment("kills", choose_device("cpu"))
        write_json(args.json, {"ratio": ratio, "rounds": rounds, **made})
    return 0


if __name__ == "__main__":
    run(main)
