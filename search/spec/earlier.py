"""An earlier study as a warm start: what a new study keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.spec.objectives import OBJECTIVES

WARM_START = "warm_start"  # attribute of a study: a list of `asdict(Earlier)`


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
