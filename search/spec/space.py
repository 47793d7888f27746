"""How a configuration is made from parameters, and what Optuna stores of them.

The only place that asks Optuna for values. Works the same on a live trial, a stored `FrozenTrial`
and a `FixedTrial`, so nothing needs a second parser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from data.errors import grouped
from models import FAMILIES, Architecture
from models.checks import shown
from search.spec.config import MAX_REPEATS, StudySpec, TrialConfig
from search.spec.domains import (
    Choice,
    ParameterValue,
    Range,
    SpecError,
    as_spec_error,
    choice_label,
    corners,
    plain,
)
from search.spec.objectives import SIZES
from search.spec.parameters import DEFAULT_FAMILY, FAMILY, known_parameters, read_values
from search.spec.recipe import OPTIONAL, RECIPE, Recipe, idle

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial, FrozenTrial

ARM, REPEAT = "arm", "repeat"  # the parameters that Optuna stores of a comparison's trial
# A trial's user attributes: parameters outside the study's space; what the user asked for
# (`--enqueue`); that it was asked to run to its end (`--continue`).
OVERRIDES, ENQUEUED, CONTINUED = "overrides", "enqueued", "continued"


def suggest(trial: BaseTrial, spec: StudySpec) -> TrialConfig:
    """The trial's configuration: asks Optuna for what is searched, the rest is fixed.

    In a comparison it asks only for the arm's name and the repeat. It does not ask for what is in
    the trial's attribute `overrides`, so the baseline need not lie in the space. Raises SpecError
    if the values make no network or recipe.
    """
    if spec.is_comparison:
        by_name = {arm.name: arm for arm in spec.arms}
        arm = by_name[trial.suggest_categorical(ARM, list(by_name))]
        trial.suggest_int(REPEAT, 0, MAX_REPEATS - 1)  # one range: repeats may be raised later
        return make_config(arm.values, spec)
    return make_config(suggest_values(trial, spec), spec)


def suggest_values(trial: BaseTrial, spec: StudySpec) -> dict[str, ParameterValue]:
    """What a search's trial trains with for parameters that the study does not fix; see above."""
    overrides, open_ones = overrides_of(trial.user_attrs, spec), searched(spec)
    drawn = {
        name: open_ones[name].suggest(trial, name)
        for name in spec.parameters
        if name in open_ones and name not in overrides
    }
    return {**drawn, **overrides}


def overrides_of(user_attributes: Mapping[str, Any], spec: StudySpec) -> dict[str, ParameterValue]:
    """Parameters with which a trial leaves the space; raises SpecError if they are malformed."""
    written = user_attributes.get(OVERRIDES, {})
    if not isinstance(written, dict):
        raise SpecError(OVERRIDES, f"{OVERRIDES} is a table, but got {shown(written)}")
    return read_values(written, spec.parameters) if written else {}


def limits(spec: StudySpec) -> dict[str, int]:
    """What a network of the study may not exceed, by name."""
    names = (f"max_{size}" for size in SIZES)
    return {name: most for name in names if (most := getattr(spec, name)) is not None}


def share_of_limits(
    network: Architecture, spec: StudySpec, image_shape: tuple[int, int, int], classes: int
) -> tuple[float, str]:
    """How much of the tightest limit a network uses, 0.0 without limits; and the same in words.

    Above 1 it is too large: `has 221 950 parameters, and max_parameters is 50 000`. Raises
    ArchitectureError, see `anatomy`.
    """
    if not (most := limits(spec)):
        return 0.0, ""
    from models.summary import sizes  # imports torch

    found = {f"max_{name}": size for name, size in sizes(network, image_shape, classes).items()}
    name = max(most, key=lambda name: found[name] / most[name])
    kind = name.removeprefix("max_").replace("_", "-")
    told = f"has {grouped(found[name])} {kind}, and {name} is {grouped(most[name])}"
    return found[name] / most[name], told


def _named(spec: StudySpec) -> dict[str, ParameterValue]:
    return {name: corners(domain)[0] for name, domain in spec.space.items()}


def base_values(
    spec: StudySpec, values: Mapping[str, ParameterValue] | None = None
) -> dict[str, ParameterValue]:
    """A value for each: the space's (the first of several), or the default of `values`' family."""
    family = (values or {}).get(FAMILY)
    known = spec.parameters if family is None else known_parameters([str(family), *spec.families])
    return {name: one.default for name, one in known.items()} | _named(spec)


def baseline_values(spec: StudySpec) -> dict[str, ParameterValue]:
    """What the baseline, if any, trains with for parameters that the study does not fix.

    Those left out have its family's default, or the space's first value if the default is none
    that a study can name: None, as of a required argument, or a nested list.
    """
    if spec.baseline is None:
        return {}
    open_ones, known = searched(spec), spec.parameters
    family = DEFAULT_FAMILY if FAMILY in open_ones else spec.space.get(FAMILY, DEFAULT_FAMILY)
    own = known_parameters([str(spec.baseline.get(FAMILY, family)), *spec.families])
    usual = {name: own[name].default for name in open_ones}
    for name, domain in open_ones.items():
        if known[name].fault(usual[name]) is not None:
            usual[name] = corners(domain)[0]
    return {**usual, **spec.baseline}


def share_of_baseline(
    spec: StudySpec, image_shape: tuple[int, int, int], classes: int
) -> tuple[float, str]:
    """See `share_of_limits`."""
    network = make_config(baseline_values(spec), spec).architecture
    return share_of_limits(network, spec, image_shape, classes)


def has_baseline(spec: StudySpec, image_shape: tuple[int, int, int], classes: int) -> bool:
    """Whether the study begins with its baseline: one that exceeds a limit is left out."""
    return spec.baseline is not None and share_of_baseline(spec, image_shape, classes)[0] <= 1


def searched(spec: StudySpec) -> dict[str, Choice | Range]:
    """The parameters that Optuna is asked for."""
    return {n: one for n, one in spec.space.items() if isinstance(one, Choice | Range)}


def make_config(values: Mapping[str, Any], spec: StudySpec) -> TrialConfig:
    """A configuration from values of parameters.

    Those left out have the space's value (the first of several), or their default. Raises
    SpecError if they make no network or recipe.
    """
    given: Mapping[str, Any] = {**_named(spec), **values}
    chosen = {name: given.get(name, one.default) for name, one in RECIPE.items()}
    for name in OPTIONAL:
        chosen[name] = chosen[name] or None
    with as_spec_error("space"):
        architecture = FAMILIES[given.get(FAMILY, DEFAULT_FAMILY)].configured(given)
    recipe = Recipe(epochs=spec.epochs, patience=spec.patience, **chosen)
    return TrialConfig(architecture=architecture, recipe=recipe)


def check_space(
    spec: StudySpec,
    image_shape: tuple[int, int, int],
    classes: int,
    queue: Sequence[Mapping[str, ParameterValue]] = (),
) -> None:
    """Try each parameter's extremes, and the baseline or the arms, before any trial runs.

    `queue` holds what else is to be trained. Raises SpecError, with the parameter as its key, if a
    value is out of range or its network does not fit.
    """
    from models.own_network import check_network  # imports torch

    trials: list[tuple[str, str, Mapping[str, ParameterValue]]] = [
        ("arms", f"arm {arm.name!r}", arm.values) for arm in spec.arms
    ]
    if not spec.is_comparison:
        for name, domain in spec.space.items():
            trials += [(name, name, {name: value}) for value in corners(domain)]
    if spec.baseline is not None:
        trials.append(("baseline", "baseline", baseline_values(spec)))
    trials += [("enqueue", f"enqueue {place}", it) for place, it in enumerate(queue, start=1)]
    for key, what, values in trials:
        with as_spec_error(key, f"{what}: "):
            network = make_config(values, spec).architecture
            check_network(network, image_shape, classes)
            share, words = share_of_limits(network, spec, image_shape, classes)
            if key == "arms" and share > 1:
                raise SpecError(key, f"it {words}; raise the limit or leave it out")


# What Optuna stores of a trial's parameters: what it trains with, and nothing else. The baseline
# need not lie in the space: a number outside its range is stored as it is, under the distribution
# of all trials. Not stored: a choice not offered, and parameters that unstored values switch off.


def distributions(spec: StudySpec) -> dict[str, BaseDistribution]:
    """What Optuna samples each searched parameter from."""
    return {name: domain.distribution for name, domain in searched(spec).items()}


def queued_baseline(spec: StudySpec) -> FrozenTrial:
    """Trial 0 of a search, to be claimed like any other: none of it is sampled."""
    values, open_ones = baseline_values(spec), searched(spec)
    told = {n: it for n, it in values.items() if n in open_ones and open_ones[n].can_store(it)}
    seen = base_values(spec) | told  # what the record suggests: stored values, else the space's
    false = [n for n in told if matters(n, seen, spec) and not matters(n, values, spec)]
    stored = {name: it for name, it in told.items() if name not in false}
    return queued_trial(spec, stored, {OVERRIDES: plain(values)})


def matters(name: str, values: Mapping[str, ParameterValue], spec: StudySpec) -> bool:
    """Whether training depends on it: not so for the depth of another family's network."""
    others = [{**values, name: it} for it in corners(spec.space[name]) if it != values[name]]
    with suppress(SpecError):
        config = make_config(values, spec)
        alike = bool(others) and all(make_config(it, spec) == config for it in others)
        return not alike and name not in idle(config.recipe)
    return True


def queued_trial(
    spec: StudySpec, stored: Mapping[str, ParameterValue], attributes: dict[str, Any]
) -> FrozenTrial:
    """A trial to be claimed like any other. `stored` is not sampled: Optuna must be able to store
    it, but it may lie outside the space."""
    from optuna.trial import TrialState, create_trial

    trial = create_trial(state=TrialState.WAITING, user_attrs=attributes)
    # Not given to `create_trial`, which refuses values outside the range.
    trial.params = {name: choice_label(value) for name, value in stored.items()}
    trial.distributions = {n: it for n, it in distributions(spec).items() if n in stored}
    return trial


def is_baseline(user_attributes: Mapping[str, Any]) -> bool:
    """Whether a trial is the hand-made model that its study starts with."""
    return OVERRIDES in user_attributes and ENQUEUED not in user_attributes


def runs_to_end(user_attributes: Mapping[str, Any]) -> bool:
    """Whether no rule stops or pauses the trial: a baseline, or one asked to continue."""
    return is_baseline(user_attributes) or CONTINUED in user_attributes


def true_params(trial: FrozenTrial, spec: StudySpec) -> dict[str, Any]:
    """The stored parameters that the trial trains with.

    An older study's baseline stores others, too: the space's nearest ends, and random choices.
    """
    trained = {n: choice_label(it) for n, it in _overrides(trial, spec).items()}
    return {n: value for n, value in trial.params.items() if trained.get(n, value) == value}


def values_of(trial: FrozenTrial, spec: StudySpec) -> dict[str, Any]:
    """A trial's parameters as Optuna stores them, also those with which it leaves the space.

    Trials with equal ones train the same configuration.
    """
    found = dict(trial.params)
    if overrides := _overrides(trial, spec):
        open_ones, usual = searched(spec), base_values(spec, {**trial.params, **overrides})
        kept = {n: it for n, it in overrides.items() if n in open_ones or it != usual[n]}
        found |= {name: choice_label(value) for name, value in kept.items()}
    return found


def lies_in_space(trial: FrozenTrial, spec: StudySpec) -> bool:
    """Whether a trial says something about the space: False for a baseline from outside."""
    if not (overrides := _overrides(trial, spec)):
        return True
    open_ones, usual = searched(spec), base_values(spec, {**trial.params, **overrides})
    inside = all(
        open_ones[name].contains(value) if name in open_ones else value == usual[name]
        for name, value in overrides.items()
    )
    return inside and open_ones.keys() <= trial.params.keys()


def _overrides(trial: FrozenTrial, spec: StudySpec) -> dict[str, ParameterValue]:
    with suppress(SpecError):  # then the trial makes no configuration either
        return overrides_of(trial.user_attrs, spec)
    return {}
