"""How fast a study trains, from the times of its reports."""

from __future__ import annotations

import math
from collections.abc import Iterable

from search.trials.view import StudyView

RECENT_SECONDS = 60.0

Span = tuple[float, float]  # start and end, in seconds since 1970


def busy_seconds(view: StudyView) -> float:
    """Time during which at least one trial was trained: pauses count for nothing."""
    return _covered(span for span, _ in _work(view))


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
