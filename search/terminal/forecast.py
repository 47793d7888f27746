"""What a study would train and how long it may take, estimated from a few training steps, or from
the trials that it has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean

import optuna
import torch

from data.errors import grouped
from models import ArchitectureError
from models.summary import count_parameters
from search.analysis.time_left import GUESS_VARIATION, TimeLeft, expected_epochs, spread, time_left
from search.analysis.wording import (
    counted,
    data_in_words,
    describe_config,
    duration,
    percent,
    printable,
    size_in_words,
)
from search.sampling.registry import epoch_budget, find_pruner
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import SpecError
from search.spec.recipe import PARTIAL_EPOCH
from search.spec.space import make_config, searched, share_of_limits, suggest
from search.store.schema import DatasetFacts
from search.store.views import StudyView, TrialView
from search.terminal.status import wrap
from search.training.device import describe_hardware
from search.training.task import Task
from search.training.train import train

MEASURED = 8  # networks at most
SECONDS = 1.0  # for which the steps of one are measured
DRAWS_AT_MOST = 1000  # until MEASURED of them can be built
NO_END = 1_000_000_000  # epochs


def epoch_seconds(config: TrialConfig, task: Task, seconds: float = SECONDS) -> float:
    """Of one epoch with its validation, extrapolated from single steps, measured for `seconds`.

    At least one is measured, after an unmeasured one that allocates memory and chooses kernels.
    """
    batch = min(config.recipe.batch_size, len(task.training))
    scored = max(1, round(batch * len(task.validation) / len(task.training)))
    first = torch.arange(max(batch, scored), device=task.device)
    one_step = replace(
        task,
        training=task.training.select(first[:batch]),
        validation=task.validation.select(first[:scored]),
    )
    recipe = replace(config.recipe, epochs=NO_END, patience=None)
    training = train(config.architecture, recipe, one_step, seed=0)
    next(training)
    began, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - began < seconds:
        next(training)
        steps += 1
    of_one = (time.perf_counter() - began) / steps
    return of_one * max(1, len(task.training) // config.recipe.batch_size)


def forecast(
    name: str, spec: StudySpec, task: Task, begun: tuple[TrialView, ...] = (), workers: int = 1
) -> str:
    """The study in words: what it would train, and for how long.

    begun: its trials so far; without reports of them, the time is judged by a few steps run now.
    workers: how many trials are trained at a time.
    """
    data = DatasetFacts.of(task.info, len(task.validation))
    hardware = describe_hardware(task.device)
    view = StudyView(
        name=name, storage="", spec=spec, dataset=data, hardware=hardware, versions={}, trials=begun
    )
    configs = [make_config(arm.values, spec) for arm in spec.arms] or _drawn(spec, task)
    sizes = [count_parameters(c.architecture, task.image_shape, task.classes) for c in configs]
    total = f": {grouped(spec.trials)} trials in total" if spec.is_comparison else ""
    if (budget := epoch_budget(spec)) is not None:
        total = f", with a budget of {grouped(round(budget))} epochs for all of them"
        pruner, least = find_pruner(spec.pruner), list[str]()
        first = min(pruner.rungs(spec.epochs), default=spec.epochs) or PARTIAL_EPOCH
        if (begun_all := spec.trials * first) > budget:
            least.append(f"{grouped(round(begun_all))} to bring every trial to its first rung")
        if whole := min(pruner.whole, spec.trials):
            least.append(counted(whole, "whole training"))
        total += f", but at least {' and '.join(least)}" if least else ""
    already = f", {grouped(view.finished)} of them finished already" if view.finished else ""
    left = time_left(view, workers)
    if left is None:
        time_needed = _estimate(spec, configs, task, max(0, spec.trials - view.finished), workers)
    else:
        time_needed = f"{_in_words(left, workers)}. An estimate from the trials so far."
    for_instance = "Base" if spec.is_comparison else "For instance"
    paragraphs = [
        f"Study {name}: {printable(spec.title)}".removesuffix(": "),
        f"{size_in_words(spec)}{total}{already}",
        f"{data_in_words(view)}. {printable(hardware)}.",
        "",
        *_contents(spec, sizes),
        f"{for_instance}: {describe_config(configs[0])}",
        "",
        time_needed,
    ]
    return "\n".join(line for text in paragraphs for line in wrap(text, "", "  ") or [""])


def _contents(spec: StudySpec, sizes: Sequence[int]) -> Iterator[str]:
    """What each arm changes, or what is searched; and the number of parameters."""
    for arm, size in zip(spec.arms, sizes, strict=False):
        changes = ", ".join(f"{name} = {json.dumps(value)}" for name, value in arm.values.items())
        yield f"{printable(arm.name)}: {changes or 'no change'}; {grouped(size)} parameters"
    if not spec.is_comparison:
        yield f"Searched: {', '.join(searched(spec)) or 'nothing'}"
        yield f"{len(sizes)} draws: {grouped(min(sizes))} to {grouped(max(sizes))} parameters"


def _estimate(
    spec: StudySpec, configs: Sequence[TrialConfig], task: Task, trials: int, workers: int
) -> str:
    """From a few of the configurations; if they are arms, spread from the first to the last."""
    costs = []
    for config in configs[:: -(-len(configs) // MEASURED)]:
        with suppress(MemoryError, torch.OutOfMemoryError):
            costs.append(epoch_seconds(config, task))
    if not costs:
        return "No estimate: there was not enough memory to measure any network."
    # A budget goes to the best trials, which are mostly among the larger networks.
    prefers = epoch_budget(spec) is not None and spec.minimize_also is None
    likely = sorted(costs)[len(costs) // 2 :] if prefers else costs
    trial_seconds = fmean(likely) * expected_epochs(spec)
    seconds = max(trials / workers, min(trials, 1)) * trial_seconds  # a trial has one worker
    parts = [_in_words(TimeLeft(seconds, spread(GUESS_VARIATION, trials)), workers)]
    if spec.pruner != "none" and epoch_budget(spec) is None:
        parts.append("if trials are stopped as early as they usually are")
    if spec.patience is not None:
        parts.append(f"less if trials stop {counted(spec.patience, 'epoch')} after their best")
    return (
        f"{', '.join(parts)}. An estimate from a few steps of {len(costs)} of {len(configs)} "
        f"{'arms' if spec.is_comparison else 'draws'}, {min(costs):.3g} to {max(costs):.3g} s per "
        "epoch, trained just now alongside whatever else this machine is doing"
        f"{'; the slower half counts, since most of the budget goes to large networks' * prefers}."
    )


def _in_words(time: TimeLeft, workers: int) -> str:
    about = f"About {duration(time.seconds)} with {counted(workers, 'worker')}"
    return f"{about}, give or take {percent(time.spread, 0)}"


def _drawn(spec: StudySpec, task: Task) -> list[TrialConfig]:
    """A few configurations that make a network for such images; raises SpecError if none does."""
    found: list[TrialConfig] = []
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(DRAWS_AT_MOST):
        with suppress(SpecError, ArchitectureError):  # a failed trial
            config = suggest(study.ask(), spec)
            images = (task.image_shape, task.classes)
            count_parameters(config.architecture, *images)
            if share_of_limits(config.architecture, spec, *images)[0] <= 1:
                found.append(config)
        if len(found) == MEASURED:
            break
    if not found:
        problem = f"none of {DRAWS_AT_MOST} draws from [space] suits these images; narrow it"
        raise SpecError("space", problem)
    return found
