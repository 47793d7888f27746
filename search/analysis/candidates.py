"""Picks the winner among a study's most promising configurations, retrained with fresh seeds.

The study's own runs do not count here: the best of many is best partly by luck (the winner's
curse). All candidates share the same fresh seeds, so differences are taken seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import sub
from statistics import mean
from typing import Any

from search.analysis.comparison import Difference, tested
from search.analysis.comparison_words import finding_in_words
from search.analysis.measures import measure_of
from search.analysis.wording import capitalized, counted, spread


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A trial's configuration retrained on the study's split.

    `values`: the study's objective after the last epoch, infinite if the run diverged.
    """

    trial: int
    epochs: int  # of each run
    searched: float  # its value in the study
    values: tuple[float, ...]  # one per fresh seed

    @property
    def mean(self) -> float:
        return mean(self.values)


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The winner first: by mean over the fresh seeds; ties are broken by the study's value."""
    return sorted(candidates, key=lambda one: (one.mean, one.searched))


def against_winner(candidates: Sequence[Candidate], objective: str) -> list[Difference]:
    """The winner against each of the others, runner-up first; tests are corrected together."""
    winner, *others = ranked(candidates)
    seeds = len(winner.values)
    lost = {f"trial {one.trial}": sum(map(math.isinf, one.values)) for one in candidates}
    found = []
    for other in others:
        arm, than = f"trial {winner.trial}", f"trial {other.trial}"
        differences = enumerate(map(sub, winner.values, other.values))
        one = Difference(
            arm=arm,
            than=than,
            metric=objective,
            by_repeat={seed: it for seed, it in differences if math.isfinite(it)},
            diverged=than if lost[than] == seeds > 1 else None,  # one seed decides nothing
            lost={name: (lost[name], seeds) for name in (arm, than)},
        )
        found.append(one)
    return tested(found)


def decision_in_words(candidates: Sequence[Candidate], objective: str) -> str:
    """Which trial won, by which measure, and how certain that is."""
    winner, *_ = ranked(candidates)
    measure, seeds = measure_of(objective), counted(len(winner.values), "fresh seed")
    second = against_winner(candidates, objective)[0]
    value = mean_over_seeds(winner, objective, unit=True)
    sure = f"“{second.arm}” is better than the second"
    if second.verdict != "better":
        sure = f"no evidence that {sure}"
    return (
        f"Trial {winner.trial} has the lowest mean {measure.words} of the {len(candidates)} most "
        f"promising trials, each trained again with {seeds} on the study's own split: "
        f"{value}. {capitalized(finding_in_words(second))}: {sure}."
    )


def mean_over_seeds(candidate: Candidate, objective: str, *, unit: bool = False) -> str:
    """`0.2306 ± 0.0012`: mean and sample standard deviation over the fresh seeds."""
    if not math.isfinite(candidate.mean):
        return "diverged"
    return measure_of(objective).mean_and_spread(candidate.values, unit=unit)


def candidates_to_dict(candidates: Sequence[Candidate], objective: str) -> dict[str, Any] | None:
    """For `metrics.json`: null for what is not finite or was not tested; None if empty."""
    if not candidates:
        return None
    second = against_winner(candidates, objective)[0]
    return {
        "objective": objective,
        "trials": [
            {
                "trial": one.trial,
                "epochs": one.epochs,
                "searched": one.searched,
                "values": [value if math.isfinite(value) else None for value in one.values],
                "mean": one.mean if math.isfinite(one.mean) else None,
                "std": spread(one.values) if math.isfinite(one.mean) else None,
            }
            for one in ranked(candidates)
        ],
        "winner_minus_second": {
            "mean": second.mean,
            "std": spread(list(second.by_repeat.values())),
            "pairs": second.pairs,
            "interval_holm": None if second.low is None else [second.low, second.high],
            "p_holm": second.p_holm,
        },
    }


def recorded_candidates(figures: Mapping[str, Any]) -> tuple[Candidate, ...]:
    """The candidates recorded with a test evaluation; empty if there were none."""
    return tuple(
        Candidate(
            values=tuple(math.inf if value is None else value for value in one["values"]),
            **{name: one[name] for name in ("trial", "epochs", "searched")},
        )
        for one in (figures.get("candidates") or {}).get("trials", ())
    )
