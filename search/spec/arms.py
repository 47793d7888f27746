"""Controlled comparisons: named arms around a base configuration.

Trial n of a comparison trains arm n % A of its A arms, for the n // A-th time. The seed of a trial
follows from that repeat alone: arms share initial weights (where their networks are alike), order
of the data and draws of the augmentation, so that they can be compared pair by pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models import Parameter
from models.checks import shown
from models.family import count, number
from search.spec.domains import (
    Domain,
    ParameterValue,
    Range,
    SpecError,
    check_keys,
    plain_values,
)
from search.spec.journal import check_line
from search.spec.parameters import read_values

_SHARES = [f"{part}_{kind}" for part in ("train", "validation", "test")
           for kind in ("error", "accuracy")]  # fmt: skip
REPORTED: Mapping[str, Parameter] = {  # metrics that a published report may give
    **dict.fromkeys(("train_loss", "validation_loss", "test_loss"), number(0.0, "loss")),
    **dict.fromkeys(_SHARES, number(0.0, "share", most=1)),
    "parameters": count(0, "trained weights and biases", least=0),
}
MAX_ARMS = 200
MAX_REPEATS = 1000
MAX_NAME = 200
FOLLOWS: Mapping[str, str] = {  # settings of a search, and why arms leave them out
    "trials": "arms x repeats; give repeats",
    "baseline": "the first [[arm]], or the one that base names",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One of the configurations that are compared.

    Attributes:
        name: unique in its study, one line.
        values: what it changes in the base configuration: parameters of [space].
        reported: metrics of a published report, by names of REPORTED.
    """

    name: str
    values: Mapping[str, ParameterValue] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_line("name", self.name, MAX_NAME)
        check_keys(self.reported, REPORTED, "reported")
        for key, metric in self.reported.items():
            if (expected := REPORTED[key].fault(metric)) is not None:
                message = f"reported: {key} must be {expected}, but got {shown(metric)}"
                raise SpecError("reported", message)

    def to_dict(self) -> dict[str, Any]:
        values, reported = plain_values(self.values), dict(self.reported)
        return {"name": self.name, "values": values, "reported": reported}


def check_arms(arms: tuple[Arm, ...], base: str | None, repeats: int, trials: int) -> None:
    """Raises SpecError unless the arms are a comparison, and the total is what they come to."""
    if not arms:
        if base is not None or repeats != 1:
            key = "base" if base is not None else "repeats"
            raise SpecError(key, f"{key} is of arms, but there is no [[arm]]; give trials")
        return
    if len(arms) > MAX_ARMS:
        raise SpecError("arms", f"at most {MAX_ARMS} arms can be compared, but got {len(arms)}")
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise SpecError("arms", f"two arms are called {name!r}")
    if base != names[0]:
        raise SpecError("base", f"the base arm is the first, {names[0]!r}, but got {base!r}")
    if trials != len(arms) * repeats:
        raise SpecError(
            "trials",
            f"{len(arms)} arms x {repeats} repeats are {len(arms) * repeats} trials, but got "
            f"{trials}; leave trials out",
        )


def comparison_fields(
    study: Mapping[str, Any], space: Mapping[str, Domain], arms: list[Arm] | None
) -> dict[str, Any]:
    """The arguments of `StudySpec` that make a comparison of it; empty for a search.

    Args:
        study: the keys of [study], and `baseline` where there is that section.
        space: a domain for each parameter that [space] names.
        arms: of the [[arm]] tables; None where there are none.

    Raises:
        SpecError: they do not go together.
    """
    if arms == []:
        raise SpecError("arm", "arm = [] leaves nothing to compare; give [[arm]] tables")
    if arms is None:
        return {}
    for key, instead in FOLLOWS.items():
        if key in study:
            raise SpecError(key, f"{key} of a study with arms is {instead}")
    if study.get("sampler", "grid") != "grid":
        raise SpecError("sampler", f"arms need no sampler, but got {study['sampler']!r}; leave it")
    base, repeats = study.get("base", arms[0].name), study.get("repeats", 1)
    if base not in [arm.name for arm in arms]:
        names = ", ".join(arm.name for arm in arms)
        raise SpecError("base", f"base: no arm is called {base!r}; there are: {names}")
    return {
        "sampler": "grid",
        "pruner": study.get("pruner", "none"),
        "space": _only_fixed(space),
        "arms": tuple(sorted(arms, key=lambda arm: arm.name != base)),  # only the base moves
        "base": base,
        "repeats": repeats,
        "trials": len(arms) * repeats,
    }


def read_arm(table: Mapping[str, Any], known: Mapping[str, Parameter]) -> Arm:
    """An arm as its [[arm]] table says. Raises SpecError."""
    if "name" not in table:
        raise SpecError("name", '[[arm]] needs name = "..."')
    reported = table.get("reported", {})
    if not isinstance(reported, dict):
        raise SpecError("reported", f"reported is a table of metrics, but got {shown(reported)}")
    values = {key: value for key, value in table.items() if key not in ("name", "reported")}
    return Arm(name=table["name"], values=read_values(values, known), reported=reported)


def _only_fixed(space: Mapping[str, Domain]) -> dict[str, Domain]:
    for name, domain in space.items():
        if isinstance(domain, Range) or len(domain.corners) > 1:
            raise SpecError(
                name,
                f"{name}: with [[arm]], [space] is the base configuration and holds one value "
                "each (a list that is one value is written [[1, 2]])",
            )
    return dict(space)
