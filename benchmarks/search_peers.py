"""The peers of `benchmarks.search`, each a whole study as a command: `optuna` and `ray`.

Both train in the DataLoader style, sample the study file's space with Optuna's TPE, stop bad trials
by their own defaults, and write a line of JSON for every epoch: moment (seconds since 1970), trial,
epoch and validation loss.

- `optuna`: `study.optimize` as in Optuna's PyTorch example: in memory, one trial at a time, the
  default (median) pruner called after each epoch.
- `ray`: Ray Tune with `OptunaSearch` and ASHA, one core per trial, as many trials as cores; on a
  GPU each gets its share of it. Data go through the object store (`tune.with_parameters`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch

from benchmarks.dataloader import LoaderTraining
from benchmarks.ray_tune import LOSS, tune_with_asha
from models import ConvNetConfig
from search.running.pool import default_workers, threads_for
from search.spec.config import StudySpec, TrialConfig
from search.spec.space import suggest
from search.spec.study_file import read_study_file
from search.terminal.commands import Parser, run
from search.training.device import choose_device
from search.training.epoch import derived_seed
from search.training.task import Task, load_study_task


def parser() -> Parser:
    own = Parser(
        description="Run a peer's study, for python -m benchmarks.search.",
        examples="python -m benchmarks.search_peers optuna --config study.toml --log epochs.jsonl",
    )
    own.add_argument("peer", choices=("optuna", "ray"))
    own.add_argument("--config", type=Path, metavar="FILE", required=True, help="study file")
    own.add_argument("--log", type=Path, metavar="FILE", required=True, help="a line per epoch")
    own.add_argument(
        "--loaders", type=int, metavar="N", default=0, help="for optuna: loader processes"
    )
    own.add("device", "data-dir")
    return own


def trained(
    config: TrialConfig,
    task: Task,
    device: torch.device,
    *,
    seed: int,
    loaders: int,
    trial: int | str,
    log: Path,
) -> Iterator[tuple[int, float]]:
    """Yields (epoch, validation loss) of each epoch, after it has been logged."""
    assert isinstance(config.architecture, ConvNetConfig)
    training = LoaderTraining(
        config.architecture, config.recipe, task, device, seed=seed, workers=loaders
    )
    for epoch in range(1, config.recipe.epochs + 1):
        training.train_epoch()
        loss = training.validate().loss
        line = {"moment": time.time(), "trial": trial, "epoch": epoch, "loss": loss}
        with log.open("a") as file:  # one short write keeps lines of several processes apart
            file.write(json.dumps(line) + "\n")
        yield epoch, loss


def optimize(spec: StudySpec, task: Task, device: torch.device, loaders: int, log: Path) -> None:
    """Optuna's own loop."""

    def objective(trial: optuna.Trial) -> float:
        config = suggest(trial, spec)
        best = float("inf")
        for epoch, loss in trained(
            config, task, device, seed=trial.number, loaders=loaders, trial=trial.number, log=log
        ):
            best = min(best, loss)
            trial.report(loss, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    sampler = optuna.samplers.TPESampler(seed=spec.seed)
    optuna.create_study(sampler=sampler).optimize(objective, n_trials=spec.trials)


def tune(spec: StudySpec, task: Task, device: torch.device, log: Path) -> None:
    """Ray Tune's loop."""
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    at_once = default_workers("cpu")
    tune_with_asha(
        tune.with_parameters(
            partial(_ray_trial, spec=spec, device=str(device), log=log), task=task
        ),
        trials=spec.trials,
        epochs=spec.epochs,
        at_once=at_once,
        threads=threads_for(at_once),
        gpus=1 if device.type == "cuda" else 0,
        search_alg=OptunaSearch(partial(_draw, spec=spec), metric=LOSS, mode="min", seed=spec.seed),
    )


def _draw(trial: optuna.Trial, spec: StudySpec) -> None:
    """The space for Ray, which takes the parameters from the trial itself."""
    suggest(trial, spec)


def _ray_trial(
    params: dict[str, Any], *, task: Task, spec: StudySpec, device: str, log: Path
) -> None:
    """What Ray's workers run."""
    from ray import tune

    trial = tune.get_context().get_trial_id()
    for _, loss in trained(
        suggest(optuna.trial.FixedTrial(params), spec),
        task,
        torch.device(device),
        seed=derived_seed(spec.seed, trial),
        loaders=0,
        trial=trial,
        log=log,
    ):
        tune.report({LOSS: loss})


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    device = choose_device(args.device)
    spec = StudySpec(**read_study_file(args.config))
    task = load_study_task(spec, args.data_dir, torch.device("cpu"))
    if args.peer == "optuna":
        optimize(spec, task, device, args.loaders, args.log)
    else:
        tune(spec, task, device, args.log.absolute())
    return 0


if __name__ == "__main__":
    run(main)
