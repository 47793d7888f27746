"""What a study would train and how long it may take, from a few steps of what it would train."""

from __future__ import annotations

import random
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

import torch

from models import ArchitectureError
from models.anatomy import count_parameters
from search.analysis.course import UNJUDGED, fit_course
from search.analysis.describe import describe_config
from search.analysis.epoch_cost import draw
from search.analysis.wording import data_in_words, duration, grouped, printable
from search.spec.config import StudySpec, TrialConfig
from search.spec.design import Arm
from search.spec.domains import Choice, Domain, Fixed, ParameterValue, Range, SpecError
from search.spec.ready_made import size_in_words
from search.spec.recipe import Recipe
from search.spec.space import arm_config, base_values, make_config
from search.store.view import DatasetFacts, StudyView
from search.training.device import describe_hardware
from search.training.task import Task
from search.training.timing import epoch_seconds

ALL_SECONDS = 20.0  # for all measurements, of which none is begun later
MOST_SECONDS = 2.0  # for one
DRAWN = 8  # configurations of a search that are measured
DRAWS_AT_MOST = 100  # until one makes a network
WIDTH = 80


def forecast(name: str, spec: StudySpec, task: Task, *, begun: int = 0, workers: int = 1) -> str:
    """The study in words: what it would train, and how long from a few steps of that, done now.

    Args:
        begun: trials that the study has already.
        workers: how many trials are trained at a time.
    """
    view = _empty_view(name, spec, task)
    already = f", {grouped(begun)} of them begun already" if begun else ""
    total = f": {grouped(spec.trials)} trials in all" if spec.is_comparison else ""
    head = [
        f"Study {name}: {printable(spec.title)}" if spec.title else f"Study {name}",
        f"{size_in_words(spec)}{total}{already}",
        f"{data_in_words(view)}. {printable(view.hardware)}.",
    ]
    body = _comparison if spec.is_comparison else _search
    return "\n".join([*_wrapped(head), "", *body(view, task, begun, workers)])


def measure(configs: Sequence[TrialConfig], task: Task) -> list[float | None]:
    """Seconds of an epoch of each; configurations that cost the same are measured once.

    None where the memory did not suffice, or `ALL_SECONDS` did not for so many.
    """
    ends_at = time.monotonic() + ALL_SECONDS
    kinds = list(dict.fromkeys(map(_cost, configs)))
    known: dict[TrialConfig, float | None] = {}
    for position, kind in enumerate(kinds):
        left = ends_at - time.monotonic()
        if left > 0:
            # Half of it: what comes before the measured steps takes its time, too.
            share = min(MOST_SECONDS, left / (len(kinds) - position) / 2)
            known[kind] = _measure(kind, task, share)
    return [known.get(_cost(config)) for config in configs]


def _measure(config: TrialConfig, task: Task, seconds: float) -> float | None:
    try:
        return epoch_seconds(config.architecture, config.recipe, task, seconds=seconds)
    except (MemoryError, torch.OutOfMemoryError):
        return None


def _cost(config: TrialConfig) -> TrialConfig:
    """The configuration without what changes nothing of an epoch's cost.

    Epochs in which layers are frozen cost less; all are taken to be like the others.
    """
    recipe = config.recipe
    return replace(
        config,
        recipe=Recipe(
            epochs=1,
            batch_size=recipe.batch_size,
            optimizer=recipe.optimizer,
            augmentation=recipe.augmentation,
            augmentation_strength=recipe.augmentation_strength,
        ),
    )


def _comparison(view: StudyView, task: Task, begun: int, workers: int) -> Iterator[str]:
    spec = view.spec
    configs = [arm_config(spec, arm) for arm in spec.arms]
    costs = measure(configs, task)
    yield from _wrapped([f"Base: {describe_config(configs[0])}"])
    yield ""
    names = [printable(arm.name) for arm in spec.arms]
    widest = max(map(len, (*names, "arm")))
    yield f"  {'arm':<{widest}}  parameters  s/epoch  changes"
    for name, arm, config, cost in zip(names, spec.arms, configs, costs, strict=True):
        parameters = grouped(_parameters(config, task))
        each = "?" if cost is None else f"{cost:.3g}"
        yield f"  {name:<{widest}}  {parameters:>10}  {each:>7}  {_changes(arm)}"
    yield ""
    measured = [cost for cost in costs if cost is not None]
    if not measured:
        yield "No estimate: not one of the arms could be measured, for want of memory or time."
        return
    by_name = {
        arm.name: fmean(measured) if cost is None else cost
        for arm, cost in zip(spec.arms, costs, strict=True)
    }
    trials = [
        spec.epochs * by_name[spec.place_of(number)[0].name] for number in range(begun, spec.trials)
    ]
    seconds = max([sum(trials) / workers, *trials], default=0.0)
    yield from _wrapped([_estimate(seconds, spec, workers, len(measured), len(costs), "arms")])


def _search(view: StudyView, task: Task, begun: int, workers: int) -> Iterator[str]:
    spec, draws = view.spec, random.Random(0)
    yield "Open:"
    for name, domain in spec.space.items():
        if not isinstance(domain, Fixed):
            yield from _wrapped([f"{name}: {_open(domain)}"], indent="  ")
    yield from _wrapped([f"For instance: {describe_config(_drawn(spec, task, draws))}"])
    configs = [_drawn(spec, task, draws) for _ in range(DRAWN)]
    costs = measure(configs, task)
    measured = [cost for cost in costs if cost is not None]
    yield ""
    if not measured:
        yield "No estimate: none of the networks drawn could be measured, for want of memory."
        return
    sizes = [_parameters(config, task) for config in configs]
    yield from _wrapped(
        [
            f"{len(measured)} configurations drawn from that: {grouped(min(sizes))} to "
            f"{grouped(max(sizes))} parameters, {min(measured):.3g} to {max(measured):.3g} s an "
            "epoch"
        ]
    )
    course, trials = fit_course(view), max(0, spec.trials - begun)
    whole = min(trials, max(0, UNJUDGED[spec.pruner] + (spec.baseline is not None) - begun))
    epochs = whole * course.longest + (trials - whole) * course.expected(0.0)
    seconds = epochs * fmean(measured) / workers
    yield from _wrapped(
        [_estimate(seconds, spec, workers, len(measured), len(costs), "configurations")]
    )


def _estimate(
    seconds: float, spec: StudySpec, workers: int, measured: int, asked: int, what: str
) -> str:
    parts = [f"About {duration(seconds)} with {workers} worker{'s' if workers > 1 else ''}"]
    if spec.pruner != "none":
        parts.append("if trials are stopped as early as they usually are")
    elif spec.patience is not None:
        parts.append(
            f"if each trains all {spec.epochs} epochs; less, as each stops {spec.patience} epochs "
            "after its best"
        )
    scope = f"all {measured}" if measured == asked else f"{measured} of {asked}"
    return (
        f"{', '.join(parts)}. An estimate: from a few steps of {scope} {what}, trained just now "
        "beside whatever else this machine does."
    )


def _drawn(spec: StudySpec, task: Task, draws: random.Random) -> TrialConfig:
    """A configuration of the space, each as likely as any other.

    Raises:
        SpecError: hardly any makes a network for such images.
    """
    open_ones = spec.space.items()
    for _ in range(DRAWS_AT_MOST):
        values = {name: _on_a_step(draw(domain, draws), domain) for name, domain in open_ones}
        try:
            config = make_config({**base_values(spec), **values}, spec)
            _parameters(config, task)
        except (SpecError, ArchitectureError):  # values that do not go together: a failed trial
            continue
        return config
    raise SpecError(
        "space", f"{DRAWS_AT_MOST} draws from [space] made no network for these images; narrow it"
    )


def _on_a_step(value: ParameterValue, domain: Domain) -> ParameterValue:
    """The value that Optuna can draw which is nearest."""
    if isinstance(domain, Range) and domain.integer and isinstance(value, int):
        return int(domain.low) + domain.step * round((value - domain.low) / domain.step)
    return value


def _parameters(config: TrialConfig, task: Task) -> int:
    return count_parameters(config.architecture, task.image_shape, task.classes)


def _changes(arm: Arm) -> str:
    changed = [f"{name} = {_value(value)}" for name, value in arm.values.items()]
    return ", ".join(changed) or "none"


def _value(value: object) -> str:
    match value:
        case tuple():
            return f"[{', '.join(map(str, value))}]"
        case bool():
            return str(value).lower()
    return str(value)


def _open(domain: Domain) -> str:
    match domain:
        case Range(low=low, high=high, log=log, step=step):
            steps = f" in steps of {step}" if step != 1 else ""
            return f"{low} to {high}{steps}" + (", evenly in the logarithm" if log else "")
        case Choice(values=values):
            return ", ".join(map(_value, values))
    return _value(domain.value)


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
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            text,
            WIDTH,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_on_hyphens=False,
        )
    ]
