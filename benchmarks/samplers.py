"""Which sampler finds the lowest validation loss: whole studies that differ only in their sampler.

The default study's space (without the baseline), training, sampler and halving are the product's;
all studies are trained in this process and kept in memory, one trial at a time. The samplers share
seeds: the images, the split, and the random trials at the start. The result is the lowest
validation loss of a study, as a ratio to that of random search with the same seed. The cost of
sampling is measured separately, with increasing numbers of trials.

    python -m benchmarks.samplers --rounds 10 --json benchmarks/results/samplers.json
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.trial import TrialState, create_trial

from benchmarks.record import BenchmarkParser, environment, spread, write_json
from search.running.trial import trial_seed
from search.sampling import halving
from search.sampling.priors import prior_for
from search.sampling.registry import SAMPLERS
from search.sampling.sampler import StudySampler
from search.spec.config import StudySpec
from search.spec.space import distributions, suggest
from search.spec.study_file import find_study_file, read_study_file
from search.store.database import optuna_warnings_only
from search.terminal.commands import run
from search.training.device import choose_device
from search.training.task import Task, load_study_task
from search.training.train import train

NAMES = ("gp", "tpe", "random")
PRESENT, DRAWS = (20, 50, 100, 200), 5
TRIALS, EPOCHS, LIMIT = 30, 6, 1000


class Outcome(NamedTuple):
    """One study's lowest validation loss, and the cost of finding it."""

    best: float
    best_number: int
    epochs: int
    train_seconds: float
    draw_seconds: float


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_counts(
        ("trials", TRIALS, "finished trials of each study"),
        ("epochs", EPOCHS, "maximum epochs per trial"),
        ("limit", LIMIT, "training images; a third as many for validation"),
        ("rounds", 1, "seeds, with one study per sampler"),
    )
    own.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(NAMES))
    own.add("dataset", "json", "device", "data-dir")
    return own


def search(spec: StudySpec, task: Task) -> Outcome:
    """One study, trained here."""
    study = optuna.create_study(sampler=StudySampler(spec, prior_for(spec.dataset)))
    at_rungs: dict[int, list[float]] = {epoch: [] for epoch in halving.rungs(spec.epochs)}
    epochs, drawing, began = 0, 0.0, time.perf_counter()
    for number in range(spec.trials):
        asked = time.perf_counter()
        trial = study.ask()
        config = suggest(trial, spec)
        drawing += time.perf_counter() - asked
        seed = trial_seed(spec.seed, number)
        training = train(config.architecture, config.recipe, task, seed=seed, partial_epoch=True)
        lowest, state = float("inf"), TrialState.COMPLETE
        for epoch in training.slices():
            if epoch is None:
                continue
            epochs += epoch.epoch > 0
            trial.report(epoch.validation_loss, epoch.epoch)
            lowest = min(lowest, epoch.validation_loss)
            rivals = at_rungs.get(epoch.epoch, [])
            stops = epoch.epoch in at_rungs and halving.rule(epoch.epoch, lowest, rivals)
            rivals.append(lowest)
            if stops:
                state = TrialState.PRUNED
                break
        training.close()
        study.tell(trial, lowest if state == TrialState.COMPLETE else None, state)
    seconds = time.perf_counter() - began
    best = study.best_trial
    assert best.value is not None
    return Outcome(best.value, best.number, epochs, seconds - drawing, drawing)


def compare(rounds: Sequence[Mapping[str, Outcome]]) -> dict[str, Any]:
    """Each sampler's losses and, if random search took part, ratios to it, seed by seed."""
    found: dict[str, Any] = {}
    for name in rounds[0]:
        studies = [outcomes[name] for outcomes in rounds]
        best = [study.best for study in studies]
        found[name] = {"best_validation_loss": spread(best), "mean": statistics.fmean(best)}
        found[name]["best_trial"] = spread([study.best_number for study in studies])
        for figure in ("epochs", "train_seconds", "draw_seconds"):
            found[name][figure] = spread([getattr(study, figure) for study in studies])
        if "random" in rounds[0] and name != "random":
            ratios = [outcomes[name].best / outcomes["random"].best for outcomes in rounds]
            found[name]["loss_to_random"] = spread(ratios)
            found[name]["mean_loss_to_random"] = statistics.fmean(ratios)
            found[name]["lower_than_random"] = sum(ratio < 1 for ratio in ratios)
    return found


def draw_seconds(spec: StudySpec) -> dict[str, float]:
    """Median CPU seconds of sampling a trial, by the number of complete trials present."""
    space, losses = distributions(spec), random.Random(0)
    found = {}
    for present in PRESENT:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=present))
        for _ in range(present):
            study.add_trial(
                create_trial(
                    params=study.ask(space).params,
                    distributions=space,
                    value=losses.random(),
                    intermediate_values={1: losses.random()},
                )
            )
        study.sampler = StudySampler(spec, prior_for(spec.dataset))
        seconds = []
        for _ in range(DRAWS + 1):  # the first includes imports
            began = time.process_time()
            study.ask(space)
            seconds.append(time.process_time() - began)
        found[str(present)] = round(statistics.median(seconds[1:]), 4)
    return found


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    device = choose_device(args.device)
    space = read_study_file(find_study_file("default"))["space"]

    def spec(name: str, seed: int) -> StudySpec:
        size = {"trials": args.trials, "epochs": args.epochs}
        return StudySpec(dataset=args.dataset, space=space, sampler=name, seed=seed, **size)

    rounds: list[dict[str, Outcome]] = []
    with optuna_warnings_only():
        costs = {name: draw_seconds(spec(name, 0)) for name in args.samplers}
        print(f"CPU seconds per draw, by number of trials present: {costs}", file=sys.stderr)
        for seed in range(args.rounds):
            data = StudySpec(
                dataset=args.dataset,
                limit=args.limit,
                validation_count=args.limit // 3,
                seed=seed,
            )
            task = load_study_task(data, args.data_dir, device)
            rounds.append({name: search(spec(name, seed), task) for name in args.samplers})
            text = ", ".join(f"{name} {study.best:.4f}" for name, study in rounds[-1].items())
            print(f"seed {seed}: {text}", file=sys.stderr, flush=True)
            scale = {
                "dataset": args.dataset,
                "trials": args.trials,
                "epochs": args.epochs,
                "training_images": args.limit,
                "rounds": len(rounds),
            }
            result = {"samplers": compare(rounds), "draw_cpu_seconds": costs, "scale": scale}
            result |= environment("samplers", device)
            write_json(args.json, result)
    for name, measured in result["samplers"].items():
        loss = measured["best_validation_loss"]
        print(f"{name}: {measured['mean']:.4f} ({loss['min']:.4f} to {loss['max']:.4f})")
    return 0


if __name__ == "__main__":
    run(main)
