"""An earlier study as a warm start: what a new study keeps of it, in terms of its own space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.spec.config import StudySpec
from search.spec.domains import Choice, ParameterValue, Range, choice_label
from search.spec.objectives import OBJECTIVES
from search.spec.parameters import FAMILY
from search.spec.space import base_values, lies_in_space, overrides_of, searched

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

WARM_START = "warm_start"  # attribute of a study: a list of `asdict(Earlier)`
Params = Mapping[str, Any]  # as Optuna stores them


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """Kept with the new study, which needs the earlier one's database no more.

    Attributes:
        source: as the person named it, without a password.
        data: title of its data set.
        objective, best: name in OBJECTIVES, and the lowest value of a complete trial, if any.
        configurations: the new study's first trials, the best first. Studies made before hold up to
            60 here, each with its end.
        left_out, clipped: better ones that the new study does not offer, and those of which a
            number was moved to its nearest end.
        not_searched: parameters that varied there and are fixed here.
    """

    source: str
    data: str
    objective: str
    best: float | None
    configurations: tuple[Any, ...]
    left_out: int = 0
    clipped: int = 0
    not_searched: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Earlier:
        if stored["objective"] not in OBJECTIVES:
            raise ValueError(f"unknown objective {stored['objective']!r}")
        lists = {name: tuple(stored[name]) for name in ("configurations", "not_searched")}
        return cls(**{**stored, **lists})


def values_of(trial: FrozenTrial, spec: StudySpec) -> dict[str, ParameterValue] | None:
    """All values that a trial of a search trained with; None where it left its space."""
    open_ones = searched(spec)
    if not (open_ones.keys() <= trial.params.keys() and lies_in_space(trial, spec)):
        return None
    values = {**base_values(spec), **overrides_of(trial.user_attrs, spec)}
    for name, domain in open_ones.items():
        stored = trial.params[name]
        labels = domain.values if isinstance(domain, Choice) else ()
        values[name] = next((it for it in labels if choice_label(it) == stored), stored)
    return values


def adapted(values: Mapping[str, ParameterValue], spec: StudySpec) -> tuple[Params, bool] | None:
    """Another study's values in this one's space, and whether a number had to be moved.

    None where the space does not offer one of its choices, or another kind of network.
    """
    open_ones, found, moved = searched(spec), dict[str, Any](), False
    if FAMILY not in open_ones and values[FAMILY] != base_values(spec)[FAMILY]:
        return None
    for name, domain in open_ones.items():
        value = values.get(name, spec.parameters[name].default)
        if isinstance(domain, Range) and isinstance(value, int | float):
            near = min(max(value, domain.low), domain.high)
            if domain.integer:
                near = domain.low + domain.step * round((near - domain.low) / domain.step)
            found[name], moved = near, moved or near != value
        elif domain.contains(value):
            found[name] = choice_label(value)
        else:
            return None
    return found, moved
