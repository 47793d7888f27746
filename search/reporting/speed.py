"""How fast a study trains, from the times of its reports."""

from __future__ import annotations

import math
from collections.abc import Iterable

from search.trials.history import EpochRow
from search.trials.view import StudyView

RECENT_SECONDS = 60.0


def busy_seconds(view: StudyView) -> float:
    """Time during which at least one trial was trained: pauses count for nothing."""
    return _covered(row for trial in view.trials for row in trial.reports)


def images_per_second(view: StudyView) -> float | None:
    """Training images a second of all workers together, validation time included.

    Over the last minute of training, or the last report where that took longer; None before it.
    """
    rows = [row for trial in view.trials for row in trial.reports if row.seconds > 0]
    latest = max((row.reported_at for row in rows), default=-math.inf)
    recent = [row for row in rows if row.reported_at > latest - RECENT_SECONDS]
    covered = _covered(recent)
    return sum(row.images for row in recent) / covered if covered else None


def _covered(rows: Iterable[EpochRow]) -> float:
    """Length of the union of the times that went into these reports."""
    spans = sorted(
        (row.reported_at - row.seconds, row.reported_at) for row in rows if row.seconds > 0
    )
    total, until = 0.0, -math.inf
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
