"""How long a whole study takes to reach its best validation loss: ours, Ray Tune, Optuna's loop.

Each contender is a separate command, timed from its start to its end, with the same space (that of
the default study, without the baseline), the same number of trials and epochs, and the same images
and split. Each uses its own pruner. They run one after the other, in a different order in every
round; each round has its own seed.

Ours is measured twice: as it is, and without the mean of the weights, which the peers' loops do not
have either. The results are how long a study takes to an equal validation loss, the best that both
of a pair reached, and how long ours takes to the best loss of the peer's whole study. With the
defaults, the benchmark takes about half an hour on two cores.

    python -m benchmarks.search --json benchmarks/results/search.json
    python -m benchmarks.search --rounds 3                    # three seeds
    python -m benchmarks.search --epochs 12 --limit 50000     # as large as a real study
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch

from benchmarks import record
from benchmarks.contender_workers import ContenderWorkers, speed
from benchmarks.contenders import contenders
from benchmarks.study_runs import ALL_IMAGES, OPTUNA, OURS, RAY, UNAVERAGED, StudyRun, run_study
from benchmarks.workload import Workload
from search.terminal.commands import run
from search.training.device import choose_device

TITLES = {
    OURS: "ours: python -m search.study",
    UNAVERAGED: "ours, without the mean of the weights",
    RAY: "Ray Tune, OptunaSearch, ASHA, DataLoader style",
    OPTUNA: "Optuna's study.optimize, DataLoader style",
}
TRIALS, EPOCHS, LIMIT = 50, 6, 6000


def parser() -> record.BenchmarkParser:
    own = record.BenchmarkParser(__doc__)
    own.add_counts(
        ("trials", TRIALS, "finished trials of each study"),
        ("epochs", EPOCHS, "maximum epochs per trial"),
        ("limit", LIMIT, f"training images; validation: a third, or from {ALL_IMAGES} all"),
        ("rounds", 1, "studies per contender, each with its own seed"),
    )
    own.add_argument(
        "--contenders", nargs="+", choices=TITLES, default=list(TITLES), help="default: all"
    )
    own.add("dataset", "json", "device", "data-dir")
    return own


def faster_loaders(args: argparse.Namespace, device: torch.device) -> int:
    """The number of loader processes with which the DataLoader style trains fastest."""
    job = Workload.of(args, device, "typical")
    speeds = {}
    for contender in contenders(device):
        if contender.style == "dataloader" and contender.at_once == 1:
            with closing(ContenderWorkers(contender, least_seconds=0)) as pool:
                found = speed(pool.time(job), 1)
            speeds[contender.loaders] = found.epoch_trials_per_hour
    return max(speeds, key=lambda loaders: speeds[loaders])


def compare(rounds: Sequence[dict[str, StudyRun]]) -> dict[str, Any]:
    """The rounds as in the JSON: each contender's results, and ours against theirs."""
    names = list(rounds[0])
    contenders = {}
    for name in names:
        runs = [one[name] for one in rounds]
        contenders[name] = {
            "title": TITLES[name],
            "seconds": record.spread([one.seconds for one in runs]),
            "best_validation_loss": record.spread([one.best for one in runs]),
            "epochs": record.spread([one.epochs for one in runs]),
        }
    against = {
        f"{own}_vs_{peer}": versus([(runs[own], runs[peer]) for runs in rounds])
        for own in (OURS, UNAVERAGED)
        for peer in (RAY, OPTUNA)
        if own in names and peer in names
    }
    return {"contenders": contenders, "against": against}


def versus(pairs: Sequence[tuple[StudyRun, StudyRun]]) -> dict[str, Any]:
    """Ours against a peer's, a pair per round. Ratios above 1: ours took less time.

    Keys: `whole_study`, the seconds of both to their end; `to_equal_loss`, to the best loss that
    both reached; `to_the_peers_best`, the seconds of the peer's whole study against ours to the
    peer's best loss, None if ours never reached it; `reached`, in how many rounds ours did.
    """
    equal, peers_best = [], []
    for ours, peer in pairs:
        loss = max(ours.best, peer.best)
        own_seconds, peer_seconds = ours.seconds_to(loss), peer.seconds_to(loss)
        assert own_seconds is not None
        assert peer_seconds is not None
        equal.append(peer_seconds / own_seconds)
        seconds = ours.seconds_to(peer.best)
        peers_best.append(None if seconds is None else peer.seconds / seconds)
    reached = [ratio for ratio in peers_best if ratio is not None]
    return {
        "whole_study": record.spread([peer.seconds / ours.seconds for ours, peer in pairs]),
        "to_equal_loss": record.spread(equal),
        "to_the_peers_best": {
            "reached": len(reached),
            **(record.spread(reached) if reached else {}),
            "rounds": peers_best,
        },
    }


def show(result: dict[str, Any]) -> None:
    """The result as a table on standard output."""
    scale = result["scale"]
    record.show_table(
        f"{scale['trials']} trials of at most {scale['epochs']} epochs, "
        f"{scale['training_images']:,} images of {scale['dataset']}, {scale['rounds']} seeds",
        ("", "seconds", "best loss", "epochs"),
        [
            (
                of["title"],
                record.in_words(of["seconds"], ",.0f"),
                record.in_words(of["best_validation_loss"], ".4f"),
                f"{of['epochs']['median']:g}",
            )
            for of in result["contenders"].values()
        ],
    )
    for name, ratios in result["against"].items():
        print(f"{name}, times as fast:")
        for kind, of in ratios.items():
            reached = of.get("reached", scale["rounds"])
            text = record.in_words(of) if reached else ""
            if reached < scale["rounds"]:
                text += f" reached in {reached} of {scale['rounds']} studies"
            print(f"  {kind}: {text}")
    for reason in result["skipped"]:
        print(f"skipped: {reason}")
    print(f"{result['hardware']}; commit {result['commit']}")


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    device = choose_device(args.device)
    names, skipped = [name for name in TITLES if name in args.contenders], []
    if RAY in names and record.ray_version() is None:
        names.remove(RAY)
        skipped.append(record.NO_RAY)
    loaders = faster_loaders(args, device) if OPTUNA in names else 0
    rounds = []
    for seed in range(args.rounds):
        runs = {}
        for place in range(len(names)):
            name = names[(place + seed) % len(names)]
            runs[name] = run_study(name, args, seed, loaders)
            print(
                f"round {seed + 1} of {args.rounds}, {TITLES[name]}: "
                f"{runs[name].seconds:.0f} s, best loss {runs[name].best:.4f}",
                file=sys.stderr,
            )
        rounds.append({name: runs[name] for name in names})
        result = {
            **compare(rounds),
            "scale": {
                "dataset": args.dataset,
                "trials": args.trials,
                "epochs": args.epochs,
                "training_images": args.limit,
                "rounds": len(rounds),
            },
            "loaders": loaders,
            "skipped": skipped,
            **record.environment("search", device),
        }
        record.write_json(args.json, result)  # after each round, which takes many minutes
    show(result)
    return 0


if __name__ == "__main__":
    run(main)
