"""Everything that a study can fix, choose or search: the one table behind [space] and --help."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from data.extensions import is_reference
from models import FAMILIES, Parameter
from models.checks import shown
from models.family import choice
from search.spec.arms import Arm, JournalEntry
from search.spec.domains import (
    Domain,
    ParameterValue,
    Range,
    SpecError,
    as_spec_error,
    check_keys,
    corners,
    domain_from_json,
)
from search.spec.recipe import RECIPE

FAMILY = "family"
DEFAULT_FAMILY = "cnn"
T = TypeVar("T")


def known_parameters(families: Collection[str] = ()) -> dict[str, Parameter]:
    """The parameters that a study of these families can name.

    If one of them is from the user's own file, the parameters of just these families; otherwise of
    all registered ones, so that a study may fix what only another family would use. If several
    families have a parameter of that name, it is the first one's: the study's come first.
    """
    names = [name for name in families if name in FAMILIES]
    if not any(map(is_reference, families)):
        names += [name for name in FAMILIES if not is_reference(name)]
    about = "kind of network; FILE.py:FUNCTION for your own"
    known = {FAMILY: choice(FAMILIES, DEFAULT_FAMILY, about)}
    for name in dict.fromkeys(names):
        own = FAMILIES[name].parameters
        if clash := own.keys() & {FAMILY, *RECIPE}:
            message = f"{name}: {min(clash)} is a setting of the training; give it another name"
            raise SpecError(FAMILY, message)
        known |= {key: one for key, one in own.items() if key not in known}
    return {**known, **RECIPE}


def read_parameter(
    name: str,
    written: Any,
    known: Mapping[str, Parameter] | None = None,
    *,
    by_user: bool = False,
    single: bool = False,
) -> Domain:
    """A parameter's domain as written in a study file, checked by type.

    Args:
        known: from `known_parameters`; None: for all registered families.
        by_user: whole ends of a range are real numbers if the parameter's values are, and no step
            is given. Stored ranges stay what they were when their study was made.
        single: a list of numbers is not a choice if it can be one value.

    Raises SpecError for an unknown name or a value of the wrong type.
    """
    known = known_parameters() if known is None else known
    check_keys([name], known, "parameter")
    parameter = known[name]
    is_list = parameter.is_list or (single and tuple in parameter.kinds)
    domain = domain_from_json(written, name, is_list=is_list)
    if isinstance(domain, Range) and not set(parameter.kinds) & {int, float}:
        raise SpecError(name, f"{name} cannot be a range ({parameter.description}); give a list")
    for value in corners(domain):
        if (expected := parameter.fault(value)) is not None:
            described = f"{name} ({parameter.description})"
            raise SpecError(name, f"{described} must be {expected}, but got {shown(value)}")
    if isinstance(domain, Range) and by_user and not (int in parameter.kinds or "step" in written):
        return replace(domain, low=float(domain.low), high=float(domain.high))
    return domain


def families_in(spec: Mapping[str, Any]) -> list[str]:
    """The families of a specification in JSON form, as written there; see `StudySpec.families`."""
    others = [spec.get("baseline") or {}, *(arm["values"] for arm in spec.get("arms", ()))]
    found = [spec["space"].get(FAMILY, DEFAULT_FAMILY), *(it.get(FAMILY, ()) for it in others)]
    names = [name for one in found for name in (one if isinstance(one, list) else [one])]
    return [name for name in names if isinstance(name, str)]


def read_values(
    written: Mapping[str, Any], known: Mapping[str, Parameter]
) -> dict[str, ParameterValue]:
    """A table's parameters, one value each; raises SpecError as above, or for a choice."""
    found: dict[str, ParameterValue] = {}
    for name, one in written.items():
        domain = read_parameter(name, one, known, single=True)
        found[name], *more = corners(domain)
        if more:
            raise SpecError(name, f"{name} must have one value here, but got {shown(one)}")
    return found


def read_tables(tables: Mapping[str, Any], *, by_user: bool = False) -> dict[str, Any]:
    """The fields of `StudySpec` that are tables, from their JSON form.

    `by_user`: see `read_parameter`. Raises SpecError for unknown parameters and invalid values; for
    arms it says which one.
    """
    known = known_parameters(families_in(tables))
    space, baseline = tables["space"], tables.get("baseline")

    def each(name: str, read: Callable[[dict[str, Any]], T]) -> tuple[T, ...]:
        found = []
        for place, table in enumerate(tables.get(name, ()), start=1):
            with as_spec_error(name, f"[[{name.removesuffix('s')}]] {place}: "):
                found.append(read(table))
        return tuple(found)

    return {
        "space": {
            name: read_parameter(name, it, known, by_user=by_user) for name, it in space.items()
        },
        "baseline": None if baseline is None else read_values(baseline, known),
        "arms": each("arms", lambda it: Arm(**{**it, "values": read_values(it["values"], known)})),
        "journal": each("journal", JournalEntry.from_dict),
    }
