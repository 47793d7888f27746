"""The strategies that `benchmarks.replay` compares.

A strategy is an Optuna sampler, a decision about a trial after each of its reports, and a choice of
what a free worker trains next. All run on an in-memory Optuna study; ours use the product's own
sampler, pruner and forecast. To add one, add an entry to `_all`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from optuna.pruners import BasePruner, HyperbandPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from benchmarks.replay_simulation import (
    CALIBRATED,
    ERROR,
    RAW,
    Entry,
    SearchState,
    Strategy,
    Verdict,
)
from search.sampling import promotion
from search.sampling.registry import find_pruner
from search.sampling.sampler import StudySampler
from search.store.claims import Choice

ONE_EPOCH = 100  # trials that get one epoch before any continues
OBJECTIVES = {"raw": RAW, "calibrated": CALIBRATED, "error": ERROR}


def asha(reduction_factor: float, grace_period: int = 1) -> Callable[[SearchState, Entry], Verdict]:
    """Ray Tune's ASHAScheduler with one bracket: at rungs grace_period * reduction_factor ** k a
    trial continues if it is no worse than the best 1 / reduction_factor of those there before it.
    """

    def after(progress: SearchState, entry: Entry) -> Verdict:
        epoch = max(entry.curve)
        rung = grace_period
        while rung < epoch:
            rung = round(rung * reduction_factor)
        if rung != epoch:
            return "go"
        rivals = [one.curve[epoch] for one in progress.entries if epoch in one.curve]
        rivals.remove(entry.curve[epoch])
        cutoff = np.percentile(rivals, 100 / reduction_factor) if rivals else math.inf
        return "stop" if entry.curve[epoch] > cutoff else "go"

    return after


def _one_epoch(_progress: SearchState, entry: Entry) -> Verdict:
    return "pause" if max(entry.curve) == 1 else "go"


def _all_then_the_best(progress: SearchState) -> Choice:
    if len(progress.entries) < min(ONE_EPOCH, progress.spec.trials):
        return promotion.NEW
    waiting = progress.paused()
    return min(waiting, key=lambda one: one.lowest).trial.number if waiting else None


def _our_pruner(progress: SearchState, entry: Entry) -> Verdict:
    """The product's halving, called as in `search.sampling.chooser`."""
    rule, epoch = find_pruner("halving"), max(entry.curve)
    if epoch not in rule.rungs(progress.spec.epochs):
        return "go"
    rivals = [
        min(loss for at, loss in one.curve.items() if at <= epoch)
        for one in progress.entries
        if one is not entry and epoch in one.curve
    ]
    decide = rule.make(progress.spec)
    assert not isinstance(decide, BasePruner)
    return "stop" if decide(epoch, entry.lowest, rivals) else "go"


def _at_rungs(progress: SearchState, entry: Entry) -> Verdict:
    rungs = find_pruner("promotion").rungs(progress.spec.epochs)
    return "pause" if max(entry.curve) in rungs else "go"


def _promotion(progress: SearchState, *, by_cost: bool = True) -> Choice:
    choose = find_pruner("promotion").choose
    assert choose is not None
    known = [entry.contender() for entry in progress.entries if entry.state != "failed"]
    return choose(
        known if by_cost else [dataclasses.replace(one, work=0) for one in known],
        trials=progress.spec.trials,
        epochs=progress.spec.epochs,
        budget=progress.budget,
        prior=progress.prior,
    )


def _up_to_total(progress: SearchState) -> Choice:
    return promotion.NEW if len(progress.entries) < progress.spec.trials else None


def _random(progress: SearchState) -> BaseSampler:
    return RandomSampler(seed=progress.spec.seed)


def ours(sampler: str = "gp", **changes: Any) -> Strategy:
    """The product's search, with `changes` to the strategy."""
    made = Strategy(
        description="ours",
        sampler=lambda progress: StudySampler(
            dataclasses.replace(progress.spec, sampler=sampler), progress.prior
        ),
        objective=CALIBRATED,
        early=True,
        after=_at_rungs,
        choose=_promotion,
        is_ours=True,
    )
    return dataclasses.replace(made, **changes)


def _all(sampler: str) -> dict[str, Strategy]:
    """`sampler`: the product's sampler that our strategies use."""
    return {
        "random": Strategy(description="random search, no stopping", sampler=_random),
        "one-epoch": Strategy(
            description=f"one epoch for {ONE_EPOCH}, then the best to the end",
            sampler=_random,
            after=_one_epoch,
            choose=_all_then_the_best,
        ),
        "tpe-hyperband": Strategy(
            description="Optuna's TPE and HyperbandPruner",
            sampler=lambda progress: TPESampler(seed=progress.spec.seed),
            pruner=lambda spec: HyperbandPruner(min_resource=1, max_resource=spec.epochs),
            after=lambda _progress, entry: "stop" if entry.trial.should_prune() else "go",
        ),
        "asha": Strategy(
            description="Ray Tune's ASHA, defaults (reduction factor 4)",
            sampler=_random,
            after=asha(4),
        ),
        "3bc7fe6": ours(
            sampler,
            description="the rule at 3bc7fe6: halving on raw loss",
            objective=RAW,
            after=_our_pruner,
            choose=_up_to_total,
        ),
        "ours": ours(sampler),
        "ours-raw": ours(sampler, description="ours on raw loss", objective=RAW),
        "ours-no-prior": ours(sampler, description="ours without a learned prior", prior="none"),
        "ours-inverted": ours(
            sampler, description="ours, the learned prior inverted", prior="inverted"
        ),
        "ours-per-epoch": ours(
            sampler,
            description="ours, whatever an epoch costs",
            choose=partial(_promotion, by_cost=False),
        ),
        "ours-random": ours("random", description="ours, configurations sampled at random"),
    }


STRATEGIES = _all("gp")


def find_strategy(name: str, sampler: str = "gp") -> Strategy:
    """`NAME`, or `NAME@OBJECTIVE` for the same with another objective (raw, calibrated, error).

    Raises:
        KeyError: there is no such strategy or objective.
    """
    name, _, objective = name.partition("@")
    strategy = _all(sampler)[name]
    if not objective:
        return strategy
    return dataclasses.replace(strategy, objective=OBJECTIVES[objective])
