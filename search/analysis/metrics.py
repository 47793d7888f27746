"""What is measured of a trial at its best epoch, and how it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from search.analysis.wording import grouped
from search.store.view import TrialView

HUGE = 1000  # nats: a loss of which no decimals are shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """Something measured at a trial's best epoch.

    Attributes:
        words: what it is called.
        factor, digits, unit: how it is shown; errors and accuracies are shares, shown in percent.
    """

    words: str
    lower_is_better: bool = True
    factor: float = 1
    digits: int = 4
    unit: str = ""

    def shown(self, value: float) -> str:
        """`0.2383`, `91.53 %`, `221 950`."""
        if self.digits == 0:
            return grouped(round(value))
        if abs(value) >= HUGE:
            return f"{value:.2e}"
        return f"{self.factor * value:.{self.digits}f}{self.unit}"

    def signed(self, difference: float) -> str:
        """`−0.0144`, `+0.85` (points of percent), `+1 536`."""
        size = Metric(words="", digits=self.digits, factor=self.factor).shown(abs(difference))
        sign = "−" if difference < 0 else "+"
        return f"{sign}{size}" if any(digit in "123456789" for digit in size) else size


def _share(words: str, *, lower_is_better: bool) -> Metric:
    return Metric(words=words, lower_is_better=lower_is_better, factor=100, digits=2, unit=" %")


METRICS: Mapping[str, Metric] = {
    "train_loss": Metric(words="training loss"),
    "validation_loss": Metric(words="validation loss"),
    "test_loss": Metric(words="test loss"),
    "train_error": _share("training error", lower_is_better=True),
    "validation_error": _share("validation error", lower_is_better=True),
    "test_error": _share("test error", lower_is_better=True),
    "train_accuracy": _share("training accuracy", lower_is_better=False),
    "validation_accuracy": _share("validation accuracy", lower_is_better=False),
    "test_accuracy": _share("test accuracy", lower_is_better=False),
    "parameters": Metric(words="number of parameters", digits=0),
}


def measured(trial: TrialView, metric: str) -> float | None:
    """A metric of METRICS at the trial's best epoch; None where it was not measured.

    Losses in nats; errors and accuracies are shares in [0, 1].
    """
    if metric == "parameters":
        return trial.parameters
    best = trial.best
    if best is None or metric.startswith("test"):
        return None
    value: float
    if metric.endswith("accuracy"):
        value = 1 - getattr(best, metric.replace("accuracy", "error"))
    else:
        value = getattr(best, metric)
    return value if math.isfinite(value) else None
