"""The tables [[arm]] and [[journal]] of a study file, and lists in [space] that span a grid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from models.checks import shown
from search.spec.design import (
    MAX_ARMS,
    MAX_REPEATS,
    Arm,
    Expectation,
    JournalEntry,
    check_names,
)
from search.spec.domains import Choice, Domain, Fixed, ParameterValue, Range, SpecError
from search.spec.space import read_value

T = TypeVar("T")

ARM_KEYS = ("name", "reported")  # beside the parameters
ENTRY_KEYS = ("objective", "hypothesis", "methodology", "expect")
EXPECT_KEYS = ("arm", "than", "metric", "is", "margin")
FOLLOWS: Mapping[str, str] = {  # settings of a search, and why arms leave them out
    "trials": "arms x repeats; give repeats",
    "baseline": "the first [[arm]], or the one that base names",
}


def comparison_fields(
    study: Mapping[str, Any], space: Mapping[str, Domain], arm_tables: object | None
) -> dict[str, Any] | None:
    """The arguments of `StudySpec` that make a comparison of it; None for a search.

    Args:
        study: the keys of [study], and `baseline` where there is that section.
        space: a domain for each parameter that [space] names.
        arm_tables: what [[arm]] was read as; None where there is none.

    Raises:
        SpecError: with the faulty table.
    """
    wants_grid = study.get("sampler") == "grid"
    if arm_tables is None and not wants_grid:
        return None
    for key, instead in FOLLOWS.items():
        if key in study:
            raise SpecError(key, f"{key} of a study with arms is {instead}")
    if study.get("sampler", "grid") != "grid":
        raise SpecError("sampler", f"arms need no sampler, but got {study['sampler']!r}; leave it")
    if arm_tables is None:
        arms, fixed = _grid(space)
    else:
        arms, fixed = _read_arms(arm_tables), _only_fixed(space)
    base, repeats = study.get("base", arms[0].name), study.get("repeats", 1)
    if base not in [arm.name for arm in arms]:
        names = ", ".join(arm.name for arm in arms)
        raise SpecError("base", f"base: no arm is called {base!r}; there are: {names}")
    if not 1 <= repeats <= MAX_REPEATS:
        raise SpecError("repeats", f"repeats must be 1 to {MAX_REPEATS}, but got {repeats}")
    arms = sorted(arms, key=lambda arm: arm.name != base)  # stable: only the base moves
    return {
        "sampler": "grid",
        "pruner": study.get("pruner", "none"),
        "space": fixed,
        "arms": tuple(arms),
        "base": base,
        "repeats": repeats,
        "trials": len(arms) * repeats,
    }


def read_journal(tables: object) -> tuple[JournalEntry, ...]:
    """The entries of [[journal]].

    Raises:
        SpecError: with the faulty entry.
    """
    return tuple(
        _placed(("journal", number), _entry, table)
        for number, table in enumerate(_tables("journal", tables))
    )


def _read_arms(tables: object) -> list[Arm]:
    if isinstance(tables, list) and len(tables) > MAX_ARMS:
        raise SpecError("arm", f"at most {MAX_ARMS} arms can be compared, but got {len(tables)}")
    arms = [
        _placed(("arm", number), _arm, table) for number, table in enumerate(_tables("arm", tables))
    ]
    if not arms:
        raise SpecError("arm", "arm = [] leaves nothing to compare; give [[arm]] tables")
    check_names(arms)  # before the base arm moves to the front, where lines are still known
    return arms


def _tables(name: str, written: object) -> list[dict[str, Any]]:
    if not isinstance(written, list) or not all(isinstance(table, dict) for table in written):
        raise SpecError(name, f"{name!r} is a list of tables, each headed [[{name}]]")
    return written


def _placed(
    place: tuple[str, int], read: Callable[[dict[str, Any]], T], table: dict[str, Any]
) -> T:
    """What `read` makes of the table; an error of it is given the place."""
    try:
        return read(table)
    except SpecError as error:
        raise SpecError(error.key, str(error), table=place) from error


def _arm(table: dict[str, Any]) -> Arm:
    _require("arm", table, "name")
    reported = table.get("reported", {})
    if not isinstance(reported, dict):
        raise SpecError("reported", f"reported is a table of figures, but got {shown(reported)}")
    values = {
        key: read_value(key, written) for key, written in table.items() if key not in ARM_KEYS
    }
    return Arm(name=table["name"], values=values, reported=reported)


def _entry(table: dict[str, Any]) -> JournalEntry:
    _refuse_unknown("[[journal]]", table, ENTRY_KEYS)
    _require("journal", table, "objective", "hypothesis")
    expected = table.get("expect", [])
    if not isinstance(expected, list) or not all(isinstance(item, dict) for item in expected):
        raise SpecError("expect", "expect is a list of { arm, than, metric, is }")
    texts = {key: _paragraph(table[key]) for key in ENTRY_KEYS[:-1] if key in table}
    return JournalEntry(**texts, expect=tuple(map(_expectation, expected)))


def _paragraph(text: Any) -> Any:
    """Line breaks and indents of a file are no part of what it says."""
    return " ".join(text.split()) if isinstance(text, str) else text


def _expectation(table: dict[str, Any]) -> Expectation:
    for key in table:
        if key not in EXPECT_KEYS:
            raise SpecError(
                "expect", f"expect: unknown key {shown(key)}; known: {', '.join(EXPECT_KEYS)}"
            )
    for key in EXPECT_KEYS[:-1]:
        if not isinstance(table.get(key), str):
            raise SpecError(
                "expect", f"expect: {key} must be a text, but got {shown(table.get(key))}"
            )
    return Expectation.from_dict(table)


def _require(name: str, table: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if key not in table:
            raise SpecError(key, f'[[{name}]] needs {key} = "..."')


def _refuse_unknown(section: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise SpecError(
                key, f"unknown key {shown(key)} in {section}; known: {', '.join(known)}"
            )


def _only_fixed(space: Mapping[str, Domain]) -> dict[str, Domain]:
    for name, domain in space.items():
        if not isinstance(domain, Fixed) and not (
            isinstance(domain, Choice) and len(domain.values) == 1
        ):
            raise SpecError(
                name,
                f"{name}: with [[arm]], [space] is the base configuration and holds one value "
                "each (a list that is one value is written [[1, 2]])",
            )
    return dict(space)


def _grid(space: Mapping[str, Domain]) -> tuple[list[Arm], dict[str, Domain]]:
    """An arm for each combination of the lists, and what is fixed."""
    lists: dict[str, tuple[ParameterValue, ...]] = {}
    for name, domain in space.items():
        if isinstance(domain, Choice) and len(domain.values) > 1:
            lists[name] = domain.values
        elif isinstance(domain, Range):
            raise SpecError(name, f"{name}: a grid has no ranges; list the values: {name} = [...]")
    if not lists:
        raise SpecError("sampler", "sampler = 'grid' needs lists in [space], or [[arm]] tables")
    size = math.prod(map(len, lists.values()))
    if size > MAX_ARMS:
        raise SpecError(
            "sampler", f"the lists in [space] have {size} combinations; at most {MAX_ARMS} can be "
            "compared, so shorten them or give sampler = \"random\""
        )  # fmt: skip
    arms = [
        Arm(name=", ".join(_named(combination)), values=combination)
        for values in itertools.product(*lists.values())
        if (combination := dict(zip(lists, values, strict=True)))
    ]
    return arms, {name: domain for name, domain in space.items() if name not in lists}


def _named(combination: Mapping[str, ParameterValue]) -> Iterator[str]:
    for name, value in combination.items():
        match value:
            case tuple():
                yield f"{name} {'-'.join(map(str, value)) or 'none'}"
            case bool():
                yield f"{name} {str(value).lower()}"
            case _:
                yield f"{name} {value}"
