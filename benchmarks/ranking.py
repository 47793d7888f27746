"""How soon losses tell configurations apart: those of the weights, and those of their mean.

Configurations are sampled at random from the default study's space and trained to the end. After
each epoch both are validated: the network being trained, and the mean of its weights, which a study
validates. The ranking of the configurations by their losses so far is compared with the final
ranking (Spearman's rank correlation). The pruner has nothing else to go by.

    python -m benchmarks.ranking --json benchmarks/results/ranking.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import optuna
from scipy.stats import spearmanr

from benchmarks.record import BenchmarkParser, environment, in_processes, show_table, write_json
from benchmarks.workload import default_study
from search.running.pool import default_workers, threads_for
from search.spec.config import StudySpec
from search.spec.space import suggest
from search.terminal.commands import run
from search.training.device import choose_device, prepare_process
from search.training.task import Task, evaluate, load_study_task
from search.training.train import train

WEIGHTS, MEAN = "weights", "mean"
TRAINING = "training"  # its losses are recorded too: they show how much is left to learn
TOP = 5  # number of best configurations whose places are shown


def parser() -> BenchmarkParser:
    own = BenchmarkParser(__doc__)
    own.add_counts(
        ("configs", 24, "drawn at random from the default study's space"),
        ("epochs", 12, "per configuration"),
        ("limit", 20_000, "training images; validation: a quarter of that"),
    )
    own.add("dataset", "json", "device", "data-dir")
    return own


Curves = Mapping[str, Sequence[float]]  # losses of each kind, the partial-epoch validation first


def train_one(number: int, args: argparse.Namespace, threads: int) -> Curves:
    """Losses of one configuration at the partial-epoch validation and after each epoch."""
    prepare_process(threads)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = default_study(dataset=args.dataset, epochs=args.epochs)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    config = suggest(study.ask(), spec)
    task = _task(args)
    training = train(config.architecture, config.recipe, task, seed=number, partial_epoch=True)
    losses: dict[str, list[float]] = {WEIGHTS: [], MEAN: [], TRAINING: []}
    for epoch in training:
        losses[MEAN].append(epoch.validation_loss)
        losses[TRAINING].append(epoch.train_loss)
        losses[WEIGHTS].append(
            evaluate(training.learning, task.validation, task.mean_C, task.std_C).loss
        )
    print(f"configuration {number + 1} of {args.configs}: {losses[MEAN][-1]:.4f}", file=sys.stderr)
    return losses


def _task(args: argparse.Namespace) -> Task:
    spec = StudySpec(dataset=args.dataset, limit=args.limit, validation_count=args.limit // 4)
    return load_study_task(spec, args.data_dir, choose_device(args.device))


def compare(curves: Sequence[Curves]) -> dict[str, Any]:
    """For both kinds: each epoch's rank correlation with the final one, and the best ones' places.

    The final ranking is by the lowest loss of either kind. `places` has a row per epoch: the
    places, from 1, of the configurations that are best at the end, the best first.
    """
    best_NE = {
        kind: np.minimum.accumulate([losses[kind] for losses in curves], axis=1)
        for kind in (WEIGHTS, MEAN)
    }
    end_N = np.minimum(best_NE[WEIGHTS][:, -1], best_NE[MEAN][:, -1])
    top = np.argsort(end_N)[:TOP]
    return {
        kind: {
            "spearman": [float(spearmanr(column_N, end_N).statistic) for column_N in losses_NE.T],
            "places": [
                (np.argsort(np.argsort(column_N))[top] + 1).tolist() for column_N in losses_NE.T
            ],
            "median_loss": np.median(losses_NE, axis=0).tolist(),
        }
        for kind, losses_NE in best_NE.items()
    }


def show(result: Mapping[str, Any]) -> None:
    weights, mean = (result["ranking"][kind] for kind in (WEIGHTS, MEAN))
    rows = []
    for epoch, rho in enumerate(weights["spearman"]):
        places = (" ".join(map(str, kind["places"][epoch])) for kind in (weights, mean))
        name = str(epoch) if epoch else "a third"
        rows.append((name, f"{rho:.2f}", f"{mean['spearman'][epoch]:.2f}", *places))
    show_table(
        f"{result['configs']} configurations, {result['training_images']} images",
        ("epoch", "weights", "mean", f"places of the best {TOP}: weights", "mean"),
        rows,
    )


def main(argv: list[str] | None = None) -> int:
    args: argparse.Namespace = parser().parse_args(argv)
    device = choose_device(args.device)
    _task(args)  # fails now if data are missing
    workers = default_workers(device.type)
    one = partial(train_one, args=args, threads=threads_for(workers))
    found = dict(in_processes(one, range(args.configs), workers))
    curves = [found[number] for number in range(args.configs)]
    result = {
        "ranking": compare(curves),
        "configs": args.configs,
        "epochs": args.epochs,
        "training_images": args.limit,
        "dataset": args.dataset,
        "curves": [dict(losses) for losses in curves],
        **environment("ranking", device),
    }
    show(result)
    write_json(args.json, result)
    return 0


if __name__ == "__main__":
    run(main)
