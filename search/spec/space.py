"""The parameters that can be searched, and how a configuration is made of them.

The only place that calls `trial.suggest_*`. Works alike on a live trial, a stored `FrozenTrial`
and a `FixedTrial`, so nothing needs a second parser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, get_args

import optuna

from data.augmentations import AUGMENTATIONS
from models import FAMILIES, Architecture, ArchitectureError
from models.checks import shown
from models.family import Parameter, choice, count, number
from models.summary import anatomy
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


PARAMETERS: Mapping[str, Parameter] = {
    # the network
    "family": choice(FAMILIES, "cnn", "kind of network"),
    **{name: one for family in FAMILIES.values() for name, one in family.parameters.items()},
    # how it is trained
    "batch_size": count(128, "images a step"),
    "optimizer": choice(get_args(OptimizerName), "adam", "adam or sgd (Nesterov)"),
    "learning_rate": number(2e-3, "peak of the schedule"),
    "momentum": number(0.9, "of sgd"),
    "weight_decay_kind": choice(
        get_args(WeightDecayKind), "decoupled", "see search.training.optim"
    ),
    "weight_decay": number(1e-2, "strength of the weight decay"),
    "schedule": choice(get_args(ScheduleName), "one-cycle", "course of the learning rate"),
    "weight_averaging": number(
        0.0, "the mean of the weights over this share of the steps is validated and kept; 0: none"
    ),
    "label_smoothing": number(0.0, "share of the target spread over all classes"),
    "gradient_clip": number(0.0, "largest norm of the gradient; 0: no limit"),
    "augmentation": choice(AUGMENTATIONS, "none", "policy of random image transforms"),
    "augmentation_strength": number(1.0, "1 is usual, 0 none"),
    "initial_weights": Parameter(
        kinds=(str,),
        default="",
        description='"imagenet", a finalised model\'s folder, a file; "": random',
    ),
    "frozen_epochs": count(0, "epochs that train the last layer alone"),
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
    return FAMILIES[values["family"]].configured(values)


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
        raise SpecError(name, f"{name} has no range ({PARAMETERS[name].description}); give a list")
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
            name, f"{name} ({parameter.description}) must be {expected}, but got {shown(value)}"
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
        anatomy(architecture, image_shape, classes)
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
