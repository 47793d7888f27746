"""The time between reports, and the part of it not spent on training."""

from dataclasses import replace

import pytest

from benchmarks.share import share
from search.store.records import EpochRow
from tests.search.made_up_views import trial_view

ROW = trial_view(0, [0.5]).reports[0]


def row(worker: str, trial: int, epoch: int, at: float, seconds: float) -> EpochRow:
    changed = {"worker": worker, "trial_number": trial, "epoch": epoch, "reported_at": at}
    return replace(ROW, seconds=seconds, **changed)


def test_time_not_spent_on_training() -> None:
    found = share(
        [
            row("a", 0, 1, 10.0, 9.0),
            row("a", 0, 2, 20.5, 10.0),  # half a second of writing
            row("b", 1, 0, 12.0, 3.0),
            row("a", 2, 0, 25.0, 3.0),  # a second and a half before it began
            row("b", 3, 0, 15.25, 3.0),
            row("a", 1, 1, 40.0, 10.0),  # after five seconds of repeating its partial epoch
        ]
    )
    assert found == pytest.approx((30.0 + 3.25, 0.5 + 1.5 + 0.25, 5.0, 3))
    assert str(found) == (
        "6.77% not training, 15.04% on restarted epochs, of 33 s; 0.750 s per claim"
    )
