"""The parameters that can be searched, and how a configuration is made of them.

The only place that calls `trial.suggest_*`. Works alike on a live trial, a stored `FrozenTrial`
and a `FixedTrial`, so nothing needs a second parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import optuna

from data.policies import POLICY_NAMES
from models import Architecture, ArchitectureError, ConvNetConfig, MLPConfig, ResNetConfig, plan
from models.architecture import FAMILIES
from models.checks import MOST_LAYERS, shown
from models.convnet import HeadName, NormPlace
from models.layers import ActivationName, PoolName
from search.spec.config import StudySpec, TrialConfig
from search.spec.design import MAX_REPEATS, Arm
from search.spec.domains import (
    Choice,
    Domain,
    Fixed,
    ParameterValue,
    Range,
    SpecError,
    domain_from_json,
    domain_to_json,
)
from search.spec.recipe import (
    OptimizerName,
    Recipe,
    RecipeError,
    ScheduleName,
    WeightDecayKind,
)

ARM, REPEAT = "arm", "repeat"  # what Optuna knows of a comparison's trial
OVERRIDES = "overrides"  # user attribute of a trial: parameters that leave the study's space
GROWTH_STAGES = 2  # the width doubles after each of the first two convolutions, then stays


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One thing that can be fixed, chosen or searched.

    Attributes:
        kinds: the types that its values may have; `float` admits whole numbers.
        default: its value where a study does not name it.
        help: one line, also shown for a wrong value.
        options: the only texts it may be; empty for anything else.
    """

    kinds: tuple[type, ...]
    default: ParameterValue
    help: str
    options: tuple[str, ...] = ()


def _text(options: tuple[str, ...], default: str, what: str) -> Parameter:
    return Parameter(kinds=(str,), default=default, options=options, help=what)


def _number(default: float, what: str) -> Parameter:
    return Parameter(kinds=(float,), default=default, help=what)


PARAMETERS: Mapping[str, Parameter] = {
    # the network
    "family": _text(tuple(FAMILIES), "cnn", "kind of network"),
    "depth": Parameter(kinds=(int,), default=3, help="number of convolutions"),
    "width": Parameter(
        kinds=(int,), default=32, help="channels of the first; doubled after the first two"
    ),
    "channels": Parameter(
        kinds=(tuple,), default=(), help="channels of each convolution, in place of depth, width"
    ),
    "kernel_sizes": Parameter(kinds=(tuple,), default=(3,), help="one for all, or one for each"),
    "padding": Parameter(
        kinds=(int, str, tuple), default="same", options=("same",), help='"same" or a number'
    ),
    "batch_norm": Parameter(
        kinds=(bool, tuple), default=True, help="after all convolutions, or the listed ones"
    ),
    "batch_norm_place": _text(
        get_args(NormPlace), "conv", "before the activation or after pooling"
    ),
    "activation": _text(get_args(ActivationName), "relu", "nonlinearity"),
    "pool": _text(get_args(PoolName), "max", "kind of pooling"),
    "pool_after": Parameter(
        kinds=(str, tuple),
        default="auto",
        options=("auto", "every"),
        help="convolutions that are followed by pooling",
    ),
    "residual": Parameter(kinds=(bool,), default=False, help="shortcut connections"),
    "head": _text(get_args(HeadName), "flatten", "what the linear layers see"),
    "hidden": Parameter(kinds=(tuple,), default=(128,), help="units of the hidden linear layers"),
    "dropout": _number(0.0, "rate in the linear part"),
    "dropout_conv": _number(0.0, "rate after the last convolution"),
    "side": Parameter(kinds=(int,), default=0, help="pixels to scale to for resnet18; 0: as is"),
    # how it is trained
    "batch_size": Parameter(kinds=(int,), default=128, help="images a step"),
    "optimizer": _text(get_args(OptimizerName), "adam", "adam or sgd (Nesterov)"),
    "learning_rate": _number(2e-3, "peak of the schedule"),
    "momentum": _number(0.9, "of sgd"),
    "weight_decay_kind": _text(get_args(WeightDecayKind), "decoupled", "see search.training.optim"),
    "weight_decay": _number(1e-2, "strength of the weight decay"),
    "schedule": _text(get_args(ScheduleName), "one-cycle", "course of the learning rate"),
    "weight_averaging": _number(
        0.0, "the mean of the weights over this share of the steps is validated and kept; 0: none"
    ),
    "label_smoothing": _number(0.0, "share of the target spread over all classes"),
    "gradient_clip": _number(0.0, "largest norm of the gradient; 0: no limit"),
    "augmentation": _text(POLICY_NAMES, "none", "policy of random image transforms"),
    "augmentation_strength": _number(1.0, "1 is usual, 0 none"),
    "initial_weights": Parameter(
        kinds=(str,), default="", help='"imagenet", a finalised model\'s folder, a file; "": random'
    ),
    "frozen_epochs": Parameter(
        kinds=(int,), default=0, help="epochs that train the last layer alone"
    ),
}


def suggest(trial: optuna.trial.BaseTrial, spec: StudySpec) -> TrialConfig:
    """The trial's configuration: asks Optuna for what is open, takes the rest as fixed.

    Parameters that the trial carries in its user attribute `overrides` replace the study's, and
    Optuna is not asked for them (so the baseline can be a network that the space does not hold).

    Of a comparison, Optuna is asked for the arm's name and the repeat alone.

    Raises:
        SpecError: the values make no network or recipe.
    """
    if spec.is_comparison:
        by_name = {arm.name: arm for arm in spec.arms}
        arm = by_name[trial.suggest_categorical(ARM, list(by_name))]
        trial.suggest_int(REPEAT, 0, MAX_REPEATS - 1)  # one range, as repeats may be raised later
        return arm_config(spec, arm)
    overrides = overrides_of(trial.user_attrs)
    values = {
        name: _suggest_one(trial, name, domain_of(spec, name))
        for name in PARAMETERS
        if name not in overrides
    }
    return make_config({**values, **overrides}, spec)


def overrides_of(user_attributes: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """The parameters in which a trial leaves its study's space.

    Raises:
        SpecError: others than ours have written them.
    """
    written = user_attributes.get(OVERRIDES, {})
    if not isinstance(written, dict):
        raise SpecError(OVERRIDES, f"{OVERRIDES} is a table, but got {shown(written)}")
    return {name: read_value(name, value) for name, value in written.items()}


def arm_config(spec: StudySpec, arm: Arm) -> TrialConfig:
    """What a comparison trains for one of its arms.

    Raises:
        SpecError: the values make no network or recipe.
    """
    return make_config({**base_values(spec), **arm.values}, spec)


def base_values(spec: StudySpec) -> dict[str, ParameterValue]:
    """A value for each of PARAMETERS: the one that the space fixes, the first of several."""
    return {name: _corners(domain_of(spec, name))[0] for name in PARAMETERS}


def domain_of(spec: StudySpec, name: str) -> Domain:
    """What the study says of a parameter, or its default."""
    return spec.space.get(name, Fixed(value=PARAMETERS[name].default))


def _suggest_one(trial: optuna.trial.BaseTrial, name: str, domain: Domain) -> ParameterValue:
    match domain:
        case Fixed(value=value):
            return value
        case Choice(values=values):
            by_label = {choice_label(value): value for value in values}
            return by_label[trial.suggest_categorical(name, list(by_label))]
        case Range(low=low, high=high, log=log, step=step) if domain.integer:
            return trial.suggest_int(name, int(low), int(high), log=log, step=step)
        case Range(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)


def choice_label(value: ParameterValue) -> bool | int | float | str | None:
    """What Optuna stores for a choice: it takes no lists."""
    return " ".join(map(str, value)) or "-" if isinstance(value, tuple) else value


def baseline_values(spec: StudySpec) -> dict[str, ParameterValue]:
    """What the baseline trains with where the study does not fix it: as named, else the default.

    Empty where the study has none.
    """
    if spec.baseline is None:
        return {}
    searched = [name for name, domain in spec.space.items() if not isinstance(domain, Fixed)]
    return {**{name: PARAMETERS[name].default for name in searched}, **spec.baseline}


def make_config(values: Mapping[str, Any], spec: StudySpec) -> TrialConfig:
    """A configuration from a value for each of PARAMETERS."""
    try:
        return TrialConfig(architecture=_architecture(values), recipe=_recipe(values, spec))
    except (ArchitectureError, RecipeError) as error:
        raise SpecError("space", str(error)) from error


def _architecture(values: Mapping[str, Any]) -> Architecture:
    if values["family"] == "mlp":
        return MLPConfig(
            hidden=values["hidden"],
            activation=values["activation"],
            dropout=values["dropout"],
            batch_norm=bool(values["batch_norm"]),
        )
    if values["family"] == "resnet18":
        return ResNetConfig(side=values["side"] or None, dropout=values["dropout"])
    if values["depth"] > MOST_LAYERS:
        raise ArchitectureError(
            f"depth must be at most {MOST_LAYERS} convolutions, but got {values['depth']}"
        )
    channels = values["channels"] or tuple(
        values["width"] * 2 ** min(layer, GROWTH_STAGES) for layer in range(values["depth"])
    )
    return ConvNetConfig(
        channels=channels,
        kernel_sizes=values["kernel_sizes"],
        padding=values["padding"],
        batch_norm=values["batch_norm"],
        batch_norm_place=values["batch_norm_place"],
        activation=values["activation"],
        pool=values["pool"],
        pool_after=values["pool_after"],
        residual=values["residual"],
        head=values["head"],
        hidden=values["hidden"],
        dropout_conv=values["dropout_conv"],
        dropout_linear=values["dropout"],
    )


def _recipe(values: Mapping[str, Any], spec: StudySpec) -> Recipe:
    return Recipe(
        epochs=spec.epochs,
        patience=spec.patience,
        batch_size=values["batch_size"],
        optimizer=values["optimizer"],
        learning_rate=values["learning_rate"],
        momentum=values["momentum"],
        weight_decay_kind=values["weight_decay_kind"],
        weight_decay=values["weight_decay"],
        schedule=values["schedule"],
        weight_averaging=values["weight_averaging"],
        label_smoothing=values["label_smoothing"],
        gradient_clip=values["gradient_clip"] or None,
        augmentation=values["augmentation"],
        augmentation_strength=values["augmentation_strength"],
        initial_weights=values["initial_weights"] or None,
        frozen_epochs=values["frozen_epochs"],
    )


def read_parameter(name: str, written: Any) -> Domain:
    """A parameter's domain as written in a study file, checked by type.

    Raises:
        SpecError: unknown name, or a value of the wrong type.
    """
    if name not in PARAMETERS:
        raise SpecError(name, f"unknown parameter {shown(name)}; known: {', '.join(PARAMETERS)}")
    domain = domain_from_json(written, name)
    if isinstance(domain, Range) and not set(PARAMETERS[name].kinds) & {int, float}:
        raise SpecError(name, f"{name} has no range ({PARAMETERS[name].help}); give a list")
    for value in _corners(domain):
        _check_kind(name, value)
    return domain


def read_value(name: str, written: Any) -> ParameterValue:
    """A parameter's one value as written in a study file, where there can be no choice.

    Raises:
        SpecError: unknown name, several values, or one of the wrong type.
    """
    # Here a list of numbers is no choice; what is a list by nature needs no second bracket.
    counts = isinstance(written, list) and all(type(item) is int for item in written)
    plain = counts and name in PARAMETERS and tuple in PARAMETERS[name].kinds
    domain = read_parameter(name, [written] if plain else written)
    values = () if isinstance(domain, Range) else _corners(domain)
    if len(values) != 1:
        raise SpecError(name, f"{name}: one value is wanted here, but got {shown(written)}")
    return values[0]


KIND_WORDS = {
    int: "a whole number",
    float: "a number",
    tuple: "a list of whole numbers",
    bool: "true or false",
    str: "a text",
}


def _check_kind(name: str, value: ParameterValue) -> None:
    parameter = PARAMETERS[name]
    kinds = (*parameter.kinds, int) if float in parameter.kinds else parameter.kinds
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if isinstance(value, str) and parameter.options and value not in parameter.options:
        fits = False
    if not fits:
        expected = " or ".join(parameter.options or [KIND_WORDS[kind] for kind in parameter.kinds])
        raise SpecError(
            name, f"{name} ({parameter.help}) must be {expected}, but got {shown(value)}"
        )


def check_values(spec: StudySpec) -> None:
    """Whether all values are of their parameters' types, as those of a study file are.

    Raises:
        SpecError: an unknown parameter, or a value of the wrong type: the specification was stored
            by another version, or by somebody else.
    """
    for name, domain in spec.space.items():
        read_parameter(name, domain_to_json(domain))
    for values in (spec.baseline or {}, *(arm.values for arm in spec.arms)):
        for name, value in values.items():
            read_value(name, list(value) if isinstance(value, tuple) else value)


def _corners(domain: Domain) -> tuple[ParameterValue, ...]:
    match domain:
        case Fixed(value=value):
            return (value,)
        case Choice(values=values):
            return values
        case Range(low=low, high=high):
            return (low, high)


def check_space(spec: StudySpec, image_shape: tuple[int, int, int], classes: int) -> None:
    """Try each parameter's extremes, and the baseline or the arms, before any trial runs.

    Raises:
        SpecError: with the parameter as its key, where a value is out of range or its network
            does not fit.
    """
    if spec.is_comparison:
        _check_arms(spec, image_shape, classes)
        return
    for name, values in _variations(spec, base_values(spec)):
        fault = _fault(values, spec, image_shape, classes)
        if fault is not None:
            raise SpecError(name, f"{name}: {fault}")


def _check_arms(spec: StudySpec, image_shape: tuple[int, int, int], classes: int) -> None:
    base = base_values(spec)
    for arm in spec.arms:
        fault = _fault({**base, **arm.values}, spec, image_shape, classes)
        if fault is None:
            continue
        # Which key is to blame, for the line: the first that is enough to break the base.
        alone = {
            name: _fault({**base, name: value}, spec, image_shape, classes)
            for name, value in arm.values.items()
        }
        guilty = next((name for name, other in alone.items() if other == fault), "name")
        raise SpecError(guilty, f"arm {arm.name!r}: {fault}", table=("arm", arm.name))


def _fault(
    values: Mapping[str, Any], spec: StudySpec, image_shape: tuple[int, int, int], classes: int
) -> str | None:
    """Why the values make no network for such images, or no recipe; None if they do."""
    try:
        return _misfit(make_config(values, spec).architecture, image_shape, classes)
    except SpecError as error:
        return str(error)


@lru_cache(maxsize=4096)  # most parameters leave the network as it is
def _misfit(
    architecture: Architecture, image_shape: tuple[int, int, int], classes: int
) -> str | None:
    try:
        plan(architecture, image_shape, classes)
    except ArchitectureError as error:
        return str(error)
    return None


def _variations(
    spec: StudySpec, usual: dict[str, ParameterValue]
) -> Iterator[tuple[str, dict[str, ParameterValue]]]:
    for name, domain in spec.space.items():
        for value in _corners(domain):
            yield name, {**usual, name: value}
    if spec.baseline is not None:
        yield "baseline", {**usual, **baseline_values(spec)}
