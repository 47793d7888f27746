"""How long a study has trained and how fast, from the times of its reports.

Two times are told apart, here and wherever they are shown: by the clock on the wall, while at
least one trial was in training; and added up over trials, which is more where several workers
train side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from search.analysis.wording import duration
from search.store.view import State, StudyView

RECENT_SECONDS = 60.0

SAME = 0.02  # two times that differ by less are told once
Span = tuple[float, float]  # start and end, in seconds since 1970


def busy_seconds(view: StudyView) -> float:
    """By the clock, while at least one trial was in training: pauses count for nothing."""
    if view.left_out is not None:
        return view.left_out.busy_seconds
    return _covered(span for span, _ in _work(view))


def trial_seconds(view: StudyView, *states: State) -> float:
    """Training and validation added up over trials in these states, or over all."""
    left_out = {} if view.left_out is None else view.left_out.seconds
    shown = view.in_state(*states) if states else view.trials
    others = (spent for state, spent in left_out.items() if state in states or not states)
    return sum(trial.seconds for trial in shown) + sum(others)


def time_spent(view: StudyView) -> str:
    """`12 min, pauses not counted`, and what that is added up over trials if it is more."""
    wall, total = busy_seconds(view), trial_seconds(view)
    several = total > (1 + SAME) * wall and duration(total) != duration(wall)
    added = f" ({duration(total)} added up over trials)" if several else ""
    return f"{duration(wall)}{added}, pauses not counted"


def images_per_second(view: StudyView) -> float | None:
    """Training images a second of all workers together, validation time included.

    Over the last minute of training; None before the first report.
    """
    work = _work(view)
    since = max((end for (_, end), _ in work), default=0.0) - RECENT_SECONDS
    recent = [((max(start, since), end), images) for (start, end), images in work if end > since]
    covered = _covered(span for span, _ in recent)
    return (
        sum((end - start) * images for (start, end), images in recent) / covered if work else None
    )


def _work(view: StudyView) -> list[tuple[Span, float]]:
    """When each report's work was done, and its images a second."""
    return [
        ((row.reported_at - row.seconds, row.reported_at), row.images / row.seconds)
        for trial in view.trials
        for row in trial.reports
        if row.seconds > 0
    ]


def _covered(spans: Iterable[Span]) -> float:
    """Length of the union."""
    total, until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
