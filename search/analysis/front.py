"""The Pareto front of a search: trials that no other beats in both size and value."""

from __future__ import annotations

import math

from search.analysis.measures import measure_of, measured, objective_in_words
from search.store.views import StudyView, TrialView


def size_name(view: StudyView) -> str:
    """What the study lowers beside its objective; else what its networks are shown by."""
    return view.spec.minimize_also or "parameters"


def pareto_front(view: StudyView) -> list[TrialView]:
    """Complete trials that no other equals in both size and value and beats in one.

    Smallest network first.
    """
    front: list[TrialView] = []
    least = math.inf
    sized = [
        (size, best.value, trial)
        for trial in view.leaderboard
        if (size := measured(trial, size_name(view))) and (best := trial.best) is not None
    ]
    for _, loss, trial in sorted(sized, key=lambda entry: entry[:2]):
        if loss < least:
            least = loss
            front.append(trial)
    return front


def front_in_words(view: StudyView) -> str:
    """`Pareto front, complete trials that ...: #3 (2 410 parameters, calibrated loss 0.31), ...`"""
    word, name = view.spec.value.word, size_name(view)
    trials = ", ".join(
        f"#{trial.number} ({measure_of(name).shown(measured(trial, name) or 0)} "
        f"{name.replace('_', '-')}, {word} {objective_in_words(view, trial.best.value)})"
        for trial in pareto_front(view)
        if trial.best is not None
    )
    return f"Pareto front, complete trials that no other beats in both size and {word}: {trials}."
