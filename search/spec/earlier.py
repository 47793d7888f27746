"""An earlier study as a warm start: what a new study keeps from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.spec.objectives import OBJECTIVES

WARM_START = "warm_start"  # attribute of a study: a list of `asdict(Earlier)`


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """Stored with the new study, which no longer needs the earlier one's database."""

    source: str  # as the user named it, without a password
    data: str  # title of its data set
    objective: str  # name in OBJECTIVES
    best: float | None  # lowest value of a complete trial, if any
    # The new study's first trials, the best first; in older databases up to 60, each with its end.
    configurations: tuple[Any, ...]
    left_out: int = 0  # better ones that do not fit the new study
    repeated: int = 0  # better ones that the baseline or another earlier study has given
    clipped: int = 0  # configurations with a number moved to the nearest end of its range
    not_searched: tuple[str, ...] = ()  # parameters that varied there and are fixed here

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Earlier:
        if stored["objective"] not in OBJECTIVES:
            raise ValueError(f"unknown objective {stored['objective']!r}")
        lists = {name: tuple(stored[name]) for name in ("configurations", "not_searched")}
        return cls(**{**stored, **lists})
