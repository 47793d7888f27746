from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from search.analysis.measures import MEASURES, measured

Make = Callable[..., Any]


def test_measured_at_the_best_epoch(make_trial: Make) -> None:
    trial = make_trial(0, [0.6, 0.3, 0.45])
    assert measured(trial, "validation_loss") == 0.3
    assert measured(trial, "validation_accuracy") == pytest.approx(0.9)
    assert measured(trial, "train_loss") == pytest.approx(0.27)
    assert measured(trial, "parameters") == 221_950
    assert measured(trial, "test_accuracy") is None
    assert measured(make_trial(1, [math.nan]), "validation_loss") is None
    assert measured(make_trial(2), "train_error") is None


def test_metrics_in_figures() -> None:
    loss, share, count = (MEASURES[n] for n in ("validation_loss", "test_accuracy", "parameters"))
    assert (loss.shown(0.23834), loss.signed(-0.0144), loss.signed(0.0)) == ("0.2383", "−0.0144",
                                                                            "0.0000")  # fmt: skip
    assert loss.signed(-0.00001) == "0.0000"  # no sign before what is shown as nothing
    assert loss.shown(991_165.3) == "9.91e+05"
    assert (share.shown(0.9153), share.signed(0.0085)) == ("91.53 %", "+0.85")
    assert (count.shown(221_950), count.signed(1536), count.signed(-3)) == ("221 950", "+1 536",
                                                                           "−3")  # fmt: skip
