"""An earlier study as a warm start: what a new study keeps from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.spec.objectives import OBJECTIVES

WARM_START = "warm_start"  # attribute of a study: a list of `asdict(Earlier)`


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """Stored with the new study, which no longer needs the earlier one's database.

    Attributes:
        source: as the user named it, without a password.
        data: title of its data set.
        objective, best: name in OBJECTIVES, and the lowest value of a complete trial, if any.
        configurations: the new study's first trials, the best first. Studies made before hold up to
            60 here, each with its end.
        left_out, clipped: number of better ones that do not fit the new study, and of those with
            a number that was moved to the nearest end of its range.
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
