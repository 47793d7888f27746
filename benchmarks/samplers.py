"""Which sampler finds the lowest validation loss: whole studies, the same but for their sampler.

Each study is a command of its own, with the default study's space (without the baseline), halving,
and a seed that all samplers share, so that they share the images, the split and the random trials
at the start. What counts is the lowest validation loss of a study, as a ratio to that of random
search with the same seed. What a draw costs is measured apart, beside more and more trials.

    python -m benchmarks.samplers --rounds 10 --json benchmarks/results/samplers.json
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import create_trial

from benchmarks.courses import OURS, Course, run_study
from benchmarks.record import environment, spread, write_json
from search.sampling.registry import SAMPLERS
from search.sampling.sampler import make_sampler
from search.spec.config import StudySpec
from search.spec.stored_params import distributions
from search.spec.study_file import find_study_file, read_study_file
from search.store.optuna_log import warnings_only
from search.terminal.commands import Parser, positive_int, run
from search.training.device import choose_device

NAMES = ("gp", "tpe", "random")
PRESENT, DRAWS = (20, 50, 100, 200), 5
TRIALS, EPOCHS, LIMIT = 25, 6, 3000


def parser() -> Parser:
    own = Parser(
        description="The lowest validation loss of whole studies that differ in their sampler "
        f"alone: {', '.join(NAMES)}; by default {TRIALS} trials of at most {EPOCHS} epochs on "
        f"{LIMIT} images.",
        examples="""
python -m benchmarks.samplers --rounds 10            # ten seeds
python -m benchmarks.samplers --samplers tpe random
""",
    )
    for name, default, text in (
        ("trials", TRIALS, "finished trials of each study"),
        ("epochs", EPOCHS, "maximum epochs per trial"),
        ("limit", LIMIT, "training images; a third as many for validation"),
        ("rounds", 1, "seeds, of each sampler one study"),
    ):
        own.add_argument(
            f"--{name}",
            type=positive_int,
            metavar="N",
            default=default,
            help=f"{text} (default: {default})",
        )
    own.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(NAMES))
    own.add_argument("--dataset", metavar="NAME", default="fashion_mnist")
    own.add_argument("--json", type=Path, metavar="FILE", help="written after each round")
    own.add_device()
    own.add_data_dir()
    return own


def compare(rounds: Sequence[Mapping[str, Course]]) -> dict[str, Any]:
    """Each sampler's losses and, where random search took part, ratios to it, seed by seed."""
    found: dict[str, Any] = {}
    for name in rounds[0]:
        best = [studies[name].best for studies in rounds]
        found[name] = {
            "best_validation_loss": spread(best),
            "mean": statistics.fmean(best),
            "seconds": spread([studies[name].seconds for studies in rounds]),
            "epochs": spread([studies[name].epochs for studies in rounds]),
        }
        if "random" in rounds[0] and name != "random":
            ratios = [studies[name].best / studies["random"].best for studies in rounds]
            found[name]["loss_to_random"] = spread(ratios)
            found[name]["mean_loss_to_random"] = statistics.fmean(ratios)
            found[name]["lower_than_random"] = sum(ratio < 1 for ratio in ratios)
    return found


def draw_seconds(name: str) -> dict[str, float]:
    """Median CPU seconds of a draw of the default study, beside so many complete trials."""
    wanted = read_study_file(find_study_file("default"))
    spec = StudySpec(dataset="fashion_mnist", space=wanted["space"], sampler=name)
    space, dice = distributions(spec), random.Random(0)
    found = {}
    for present in PRESENT:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=present))
        for _ in range(present):
            params = study.ask(space).params
            study.add_trial(
                create_trial(
                    params=params,
                    distributions=space,
                    value=dice.random(),
                    intermediate_values={1: dice.random()},
                )
            )
        study.sampler = make_sampler(spec)
        seconds = []
        for _ in range(DRAWS + 1):  # the first pays for imports
            began = time.process_time()
            study.ask(space)
            seconds.append(time.process_time() - began)
        found[str(present)] = round(statistics.median(seconds[1:]), 4)
    return found


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    device = choose_device(args.device)
    with warnings_only():
        costs = {name: draw_seconds(name) for name in args.samplers}
    print(f"CPU seconds of a draw, beside so many trials: {costs}", file=sys.stderr)
    rounds: list[dict[str, Course]] = []
    for seed in range(args.rounds):
        studies = {name: run_study(OURS, args, seed, 0, sampler=name) for name in args.samplers}
        rounds.append(studies)
        text = ", ".join(f"{name} {study.best:.4f}" for name, study in studies.items())
        print(f"seed {seed}: {text}", file=sys.stderr, flush=True)
        result = {
            "samplers": compare(rounds),
            "draw_cpu_seconds": costs,
            "scale": {
                "dataset": args.dataset,
                "trials": args.trials,
                "epochs": args.epochs,
                "training_images": args.limit,
                "rounds": len(rounds),
            },
            **environment("samplers", device),
        }
        if args.json:
            write_json(args.json, result)
    for name, measured in result["samplers"].items():
        loss = measured["best_validation_loss"]
        print(f"{name}: {measured['mean']:.4f} ({loss['min']:.4f} to {loss['max']:.4f})")
    return 0


if __name__ == "__main__":
    run(main)
