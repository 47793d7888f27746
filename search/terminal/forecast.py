"""What a study would train and how long it may take, from a few steps of what it would train."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from statistics import fmean

import torch

from models import ArchitectureError
from models.summary import count_parameters
from search.analysis.describe import describe_config
from search.analysis.time_left import TimeLeft, draw_configs, time_ahead
from search.analysis.wording import data_in_words, duration, grouped, percent, printable
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import Choice, Range, SpecError
from search.spec.space import arm_config
from search.spec.study_file import size_in_words
from search.store.views import DatasetFacts, StudyView
from search.terminal.summary import wrap
from search.training.device import describe_hardware
from search.training.task import Task
from search.training.train import train

ALL_SECONDS = 20.0  # for all measurements, of which none is begun later
MOST_SECONDS = 2.0  # for one
DRAWN = 8  # configurations of a search that are measured
DRAWS_AT_MOST = 100  # until so many make a network
NO_END = 1_000_000_000  # epochs

Timer = Callable[[TrialConfig, Task, float], float]  # with the seconds that it may take


def epoch_seconds(config: TrialConfig, task: Task, seconds: float) -> float:
    """Of one epoch with its validation, extrapolated from single steps.

    Args:
        seconds: how long to measure. One step is measured in any case, after one that is not: it
            takes memory from the system and chooses kernels.
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
    name: str,
    spec: StudySpec,
    task: Task,
    *,
    begun: int = 0,
    workers: int = 1,
    timer: Timer = epoch_seconds,
) -> str:
    """The study in words: what it would train, and how long from a few steps of that, done now.

    Args:
        begun: trials that the study has already.
        workers: how many trials are trained at a time.
    """
    view = StudyView(
        name=name,
        storage="",
        spec=spec,
        dataset=DatasetFacts.of(task.info, len(task.validation)),
        hardware=describe_hardware(task.device),
        versions={},
        trials=(),
    )
    already = f", {grouped(begun)} of them begun already" if begun else ""
    total = f": {grouped(spec.trials)} trials in total" if spec.is_comparison else ""
    head = [
        f"Study {name}: {printable(spec.title)}" if spec.title else f"Study {name}",
        f"{size_in_words(spec)}{total}{already}",
        f"{data_in_words(view)}. {printable(view.hardware)}.",
    ]
    arms = [arm_config(spec, arm) for arm in spec.arms]
    configs = arms or _drawn(spec, task)
    costs = measure(configs, task, timer)
    sizes = [count_parameters(c.architecture, task.image_shape, task.classes) for c in configs]
    body = (_arms if spec.is_comparison else _space)(spec, configs, costs, sizes)
    end = _estimate(view, costs, begun, workers)
    wrapped = [line for text in head for line in wrap(text, "", "  ")]
    return "\n".join([*wrapped, "", *body, "", *wrap(end, "", "  ")])


def measure(configs: Sequence[TrialConfig], task: Task, timer: Timer) -> list[float | None]:
    """Seconds of an epoch of each; configurations that cost the same are measured once.

    None where memory, or the time for all measurements, was too short.
    """

    def kind(config: TrialConfig) -> object:
        recipe = config.recipe
        return config.architecture, recipe.batch_size, recipe.optimizer, recipe.augmentation

    ends_at = time.monotonic() + ALL_SECONDS
    kinds = {kind(config): config for config in configs}
    # Half of its share: what comes before the measured steps takes time, too.
    each = min(MOST_SECONDS, ALL_SECONDS / len(kinds) / 2)
    known: dict[object, float] = {}
    for one, config in kinds.items():
        if time.monotonic() < ends_at:
            with suppress(MemoryError, torch.OutOfMemoryError):
                known[one] = timer(config, task, each)
    return [known.get(kind(config)) for config in configs]


def _arms(
    spec: StudySpec,
    configs: Sequence[TrialConfig],
    costs: Sequence[float | None],
    sizes: Sequence[int],
) -> Iterator[str]:
    yield from wrap(f"Base: {describe_config(configs[0])}", "", "  ")
    yield ""
    widest = max(len("arm"), *(len(printable(arm.name)) for arm in spec.arms))
    yield f"  {'arm':<{widest}}  parameters  s/epoch  changes"
    for arm, cost, size in zip(spec.arms, costs, sizes, strict=True):
        each = "?" if cost is None else f"{cost:.3g}"
        changes = ", ".join(f"{name} = {json.dumps(value)}" for name, value in arm.values.items())
        row = f"{printable(arm.name):<{widest}}  {grouped(size):>10}  {each:>7}"
        yield f"  {row}  {changes or 'none'}"


def _space(
    spec: StudySpec,
    configs: Sequence[TrialConfig],
    costs: Sequence[float | None],
    sizes: Sequence[int],
) -> Iterator[str]:
    yield "Searched:"
    for name, domain in spec.space.items():
        if isinstance(domain, Choice):
            yield from wrap(f"{name}: {', '.join(map(json.dumps, domain.values))}", "  ", "    ")
        elif isinstance(domain, Range):
            steps = f" in steps of {domain.step}" if domain.step != 1 else ""
            log = ", evenly in the logarithm" if domain.log else ""
            yield f"  {name}: {domain.low} to {domain.high}{steps}{log}"
    yield from wrap(f"For instance: {describe_config(configs[0])}", "", "  ")
    if measured := [cost for cost in costs if cost is not None]:
        yield ""
        yield from wrap(
            f"{len(measured)} configurations drawn from that: {grouped(min(sizes))} to "
            f"{grouped(max(sizes))} parameters, {min(measured):.3g} to {max(measured):.3g} s "
            "an epoch",
            "",
            "  ",
        )


def _estimate(view: StudyView, costs: Sequence[float | None], begun: int, workers: int) -> str:
    spec = view.spec
    measured = [cost for cost in costs if cost is not None]
    what = "arms" if spec.is_comparison else "configurations"
    if not measured:
        return f"No estimate: none of the {what} could be measured, for want of memory or time."
    if spec.is_comparison:
        by_name = {
            arm.name: cost or fmean(measured) for arm, cost in zip(spec.arms, costs, strict=True)
        }
        names = [spec.place_of(number)[0].name for number in range(begun, spec.trials)]
        trials = [spec.epochs * by_name[name] for name in names]
        left = TimeLeft(max([sum(trials) / workers, *trials], default=0.0), 0.0)
    else:
        left = time_ahead(view, measured, begun, workers)
    parts = [f"About {duration(left.seconds)} with {workers} worker{'s' if workers > 1 else ''}"]
    parts += [f"give or take {percent(left.spread, 0)}"] * bool(left.spread)
    if spec.pruner != "none":
        parts.append("if trials are stopped as early as they usually are")
    elif spec.patience is not None:
        parts.append(
            f"if each trains all {spec.epochs} epochs; less, as each stops {spec.patience} epochs "
            "after its best"
        )
    return (
        f"{', '.join(parts)}. An estimate: from a few steps of {len(measured)} of {len(costs)} "
        f"{what}, trained just now beside whatever else this machine does."
    )


def _drawn(spec: StudySpec, task: Task) -> list[TrialConfig]:
    """A few configurations of the space that make a network for such images.

    Raises:
        SpecError: none does.
    """
    found: list[TrialConfig] = []
    for config in draw_configs(spec, DRAWS_AT_MOST):
        with suppress(ArchitectureError):  # a failed trial
            count_parameters(config.architecture, task.image_shape, task.classes)
            found.append(config)
        if len(found) == DRAWN:
            return found
    if not found:
        raise SpecError(
            "space",
            f"{DRAWS_AT_MOST} draws from [space] made no network for these images; narrow it",
        )
    return found
