"""The parameters that a study searches, as axes: each value's place on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from models.family import compact
from search.spec.config import StudySpec
from search.spec.domains import Choice, Range, choice_label


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchAxis:
    """A searched parameter.

    Attributes:
        labels: of a choice, in the study's order; empty for a range.
        low, high, log: of a range.
    """

    name: str
    labels: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: Any) -> float:
        """In [0, 1]; choices lie evenly, and values from outside at the nearer end."""
        if self.labels:
            if value not in self.labels:
                return 0.0
            return self.labels.index(value) / max(1, len(self.labels) - 1)
        low, high, at = (self._scaled(float(x)) for x in (self.low, self.high, value))
        return min(1.0, max(0.0, (at - low) / (high - low))) if high > low else 0.0

    def ticks(self) -> list[tuple[float, str]]:
        """(place, label): of each choice, of a range its ends and its middle."""
        if self.labels:
            return [(self.place(label), str(label)) for label in self.labels]
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return [(self.place(value), compact(value)) for value in (self.low, middle, self.high)]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


def search_axes(spec: StudySpec) -> list[SearchAxis]:
    """One for each parameter that is searched, in the order of the study's space."""
    axes = []
    for name, domain in spec.space.items():
        match domain:
            case Choice(values=values) if len(values) > 1:
                axes.append(SearchAxis(name=name, labels=tuple(map(choice_label, values))))
            case Range(low=low, high=high, log=log) if low < high:
                axes.append(SearchAxis(name=name, low=low, high=high, log=log))
    return axes
