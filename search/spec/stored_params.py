"""What Optuna is told of a trial's parameters: what it trains with, and nothing else.

Optuna draws from a distribution for each searched parameter. The baseline need not lie in the
space: a number outside its range is stored as it is, under the same distribution as any trial's; a
choice that the space does not offer cannot be stored, and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from search.spec.config import StudySpec
from search.spec.domains import Choice, Domain, Fixed, ParameterValue, Range, SpecError
from search.spec.space import (
    OVERRIDES,
    baseline_values,
    choice_label,
    domain_of,
    overrides_of,
)


def distributions(spec: StudySpec) -> dict[str, BaseDistribution]:
    """What Optuna draws each searched parameter from."""
    found: dict[str, BaseDistribution] = {}
    for name, domain in spec.space.items():
        match domain:
            case Fixed():
                continue
            case Choice(values=values):
                found[name] = CategoricalDistribution(list(map(choice_label, values)))
            case Range(low=low, high=high, log=log, step=step) if domain.integer:
                found[name] = IntDistribution(int(low), int(high), log=log, step=step)
            case Range(low=low, high=high, log=log):
                found[name] = FloatDistribution(low, high, log=log)
    return found


def queued_baseline(spec: StudySpec) -> FrozenTrial:
    """Trial 0 of a search, to be claimed like any other: nothing of it is drawn."""
    values = baseline_values(spec)
    params = _params(values, spec)
    return FrozenTrial(
        number=0,
        trial_id=-1,  # the database gives it its own
        state=TrialState.WAITING,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params=params,
        distributions={name: it for name, it in distributions(spec).items() if name in params},
        user_attrs={
            OVERRIDES: {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in values.items()
            }
        },
        system_attrs={},
        intermediate_values={},
    )


def true_params(trial: FrozenTrial, spec: StudySpec) -> dict[str, Any]:
    """The stored parameters that the trial trains with.

    Studies made before `queued_baseline` have a baseline with others: the space's nearest ends, and
    choices drawn at random.
    """
    overrides = _overrides(trial)
    trained = _params(overrides, spec)
    return {
        name: value
        for name, value in trial.params.items()
        if name not in overrides or (name in trained and trained[name] == value)
    }


def lies_in_space(trial: FrozenTrial, spec: StudySpec) -> bool:
    """Whether the trial tells something of the space: False for a baseline from outside."""
    overrides = _overrides(trial)
    inside = all(_holds(domain_of(spec, name), value) for name, value in overrides.items())
    return not overrides or (inside and distributions(spec).keys() <= trial.params.keys())


def _overrides(trial: FrozenTrial) -> dict[str, ParameterValue]:
    try:
        return overrides_of(trial.user_attrs)
    except SpecError:  # then the trial makes no configuration, either
        return {}


def _params(values: Mapping[str, ParameterValue], spec: StudySpec) -> dict[str, Any]:
    """In Optuna's form, as far as it has one."""
    return {
        name: choice_label(value)
        for name, value in values.items()
        if name in spec.space and _can_be_stored(spec.space[name], value)
    }


def _can_be_stored(domain: Domain, value: ParameterValue) -> bool:
    match domain:
        case Choice(values=values):
            return value in values
        case Range(log=log):
            return isinstance(value, int | float) and (value > 0 or not log)
        case _:
            return False


def _holds(domain: Domain, value: ParameterValue) -> bool:
    match domain:
        case Fixed(value=only):
            return value == only
        case Choice(values=values):
            return value in values
        case Range(low=low, high=high, step=step):
            if not isinstance(value, int | float) or not low <= value <= high:
                return False
            return not domain.integer or (value - low) % step == 0
