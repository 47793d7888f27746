"""What a study would train and how long it may take, from a few steps of what it would train."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean

import torch

from models import ArchitectureError
from models.summary import count_parameters
from search.analysis.describe import describe_config
from search.analysis.time_left import TimeLeft, draw_configs, time_ahead
from search.analysis.wording import data_in_words, duration, grouped, percent, printable
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import Choice, Domain, Fixed, Range, SpecError
from search.spec.space import arm_config
from search.spec.study_file import size_in_words
from search.store.views import DatasetFacts, StudyView
from search.training.device import describe_hardware
from search.training.task import Task
from search.training.train import train

ALL_SECONDS = 20.0  # for all measurements, of which none is begun later
MOST_SECONDS = 2.0  # for one
DRAWN = 8  # configurations of a search that are measured
DRAWS_AT_MOST = 100  # until so many make a network
NO_END = 1_000_000_000  # epochs
WIDTH = 80

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
    view = _empty_view(name, spec, task)
    already = f", {grouped(begun)} of them begun already" if begun else ""
    total = f": {grouped(spec.trials)} trials in total" if spec.is_comparison else ""
    head = [
        f"Study {name}: {printable(spec.title)}" if spec.title else f"Study {name}",
        f"{size_in_words(spec)}{total}{already}",
        f"{data_in_words(view)}. {printable(view.hardware)}.",
    ]
    if spec.is_comparison:
        configs = [arm_config(spec, arm) for arm in spec.arms]
        costs = measure(configs, task, timer)
        body = _arms(spec, configs, costs, task)
    else:
        configs = _drawn(spec, task)
        costs = measure(configs, task, timer)
        body = _space(spec, configs, costs, task)
    end = _estimate(view, costs, begun, workers)
    return "\n".join([*_wrapped(head), "", *body, "", *_wrapped([end])])


def measure(configs: Sequence[TrialConfig], task: Task, timer: Timer) -> list[float | None]:
    """Seconds of an epoch of each; configurations that cost the same are measured once.

    None where memory, or the time for all measurements, was too short.
    """
    ends_at = time.monotonic() + ALL_SECONDS
    kinds = {_kind(config): config for config in configs}
    known: dict[object, float] = {}
    for position, (kind, config) in enumerate(kinds.items()):
        left = ends_at - time.monotonic()
        if left > 0:
            # Half of its share: what comes before the measured steps takes time, too.
            share = min(MOST_SECONDS, left / (len(kinds) - position) / 2)
            try:
                known[kind] = timer(config, task, share)
            except (MemoryError, torch.OutOfMemoryError):
                continue
    return [known.get(_kind(config)) for config in configs]


def _kind(config: TrialConfig) -> object:
    """What an epoch's cost depends on; epochs with frozen layers are taken to be like others."""
    recipe = config.recipe
    return config.architecture, recipe.batch_size, recipe.optimizer, recipe.augmentation


def _arms(
    spec: StudySpec, configs: Sequence[TrialConfig], costs: Sequence[float | None], task: Task
) -> Iterator[str]:
    yield from _wrapped([f"Base: {describe_config(configs[0])}"])
    yield ""
    widest = max(len("arm"), *(len(printable(arm.name)) for arm in spec.arms))
    yield f"  {'arm':<{widest}}  parameters  s/epoch  changes"
    for arm, config, cost in zip(spec.arms, configs, costs, strict=True):
        parameters = grouped(_parameters(config, task))
        each = "?" if cost is None else f"{cost:.3g}"
        changes = ", ".join(f"{name} = {json.dumps(value)}" for name, value in arm.values.items())
        name = printable(arm.name)
        yield f"  {name:<{widest}}  {parameters:>10}  {each:>7}  {changes or 'none'}"


def _space(
    spec: StudySpec, configs: Sequence[TrialConfig], costs: Sequence[float | None], task: Task
) -> Iterator[str]:
    yield "Searched:"
    for name, domain in spec.space.items():
        if not isinstance(domain, Fixed):
            yield from _wrapped([f"{name}: {_searched(domain)}"], indent="  ")
    yield from _wrapped([f"For instance: {describe_config(configs[0])}"])
    if measured := [cost for cost in costs if cost is not None]:
        sizes = [_parameters(config, task) for config in configs]
        yield ""
        yield from _wrapped(
            [
                f"{len(measured)} configurations drawn from that: {grouped(min(sizes))} to "
                f"{grouped(max(sizes))} parameters, {min(measured):.3g} to {max(measured):.3g} s "
                "an epoch"
            ]
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
    scope = (
        f"all {len(measured)}"
        if len(measured) == len(costs)
        else f"{len(measured)} of {len(costs)}"
    )
    return (
        f"{', '.join(parts)}. An estimate: from a few steps of {scope} {what}, trained just now "
        "beside whatever else this machine does."
    )


def _drawn(spec: StudySpec, task: Task) -> list[TrialConfig]:
    """A few configurations of the space that make a network for such images.

    Raises:
        SpecError: none does.
    """
    found: list[TrialConfig] = []
    for config in draw_configs(spec, DRAWS_AT_MOST):
        try:
            _parameters(config, task)
        except ArchitectureError:  # a failed trial
            continue
        found.append(config)
        if len(found) == DRAWN:
            break
    if not found:
        raise SpecError(
            "space",
            f"{DRAWS_AT_MOST} draws from [space] made no network for these images; narrow it",
        )
    return found


def _parameters(config: TrialConfig, task: Task) -> int:
    return count_parameters(config.architecture, task.image_shape, task.classes)


def _searched(domain: Domain) -> str:
    match domain:
        case Range(low=low, high=high, log=log, step=step):
            steps = f" in steps of {step}" if step != 1 else ""
            return f"{low} to {high}{steps}" + (", evenly in the logarithm" if log else "")
        case Choice(values=values):
            return ", ".join(map(json.dumps, values))
        case Fixed(value=value):
            return json.dumps(value)


def _empty_view(name: str, spec: StudySpec, task: Task) -> StudyView:
    """The study before its first trial."""
    info = task.info
    return StudyView(
        name=name,
        storage="",
        spec=spec,
        dataset=DatasetFacts(
            name=info.name,
            title=info.title,
            class_names=info.class_names,
            image_shape=info.image_shape,
            training_count=info.training_count,
            validation_count=len(task.validation),
            own_validation=info.has_own_validation,
            notes=info.notes,
        ),
        hardware=describe_hardware(task.device),
        versions={},
        trials=(),
    )


def _wrapped(texts: Sequence[str], indent: str = "") -> list[str]:
    hanging = f"{indent}  "
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            text, WIDTH, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False
        )
    ]
