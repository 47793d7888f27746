"""What is measured in trials and studies, how it is written, and how uncertain it is.

Two things make an accuracy uncertain, and every ± says which one it stands for: the images it was
measured on, `± 0.26 (sampling)`, one binomial standard error; and the seed it was trained with,
`± 0.12 (3 seeds)`, the sample standard deviation over the trainings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

from data.errors import grouped
from search.analysis.wording import duration, spread
from search.spec.objectives import DEFAULT_OBJECTIVE, OBJECTIVES, SIZES
from search.training.metrics import METRICS

if TYPE_CHECKING:
    from search.store.views import StudyView, TrialView


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """Something measured at a trial's best epoch, and how it is shown: shares in percent."""

    words: str
    lower_is_better: bool = True
    factor: float = 1
    digits: int = 4
    unit: str = ""

    def shown(self, value: float) -> str:
        """`0.2383`, `1.23e+03`, `91.53 %`, `221 950`."""
        if self.digits == 0:
            return grouped(round(value))
        if abs(value) >= 1000:
            return f"{value:.2e}"
        return f"{self.factor * value:.{self.digits}f}{self.unit}"

    def bare(self, value: float) -> str:
        """The same without its unit, for columns and axes whose header names it."""
        return self.shown(value).removesuffix(self.unit)

    @property
    def of_header(self) -> str:
        """` (%)` for such a header, or nothing."""
        return f" ({self.unit.strip()})" if self.unit else ""

    def size(self, difference: float) -> str:
        """`0.0144`, `0.85 points`, `1 536`."""
        return self.bare(abs(difference)) + (" points" if self.unit else "")

    def signed(self, difference: float) -> str:
        """`−0.0144`, `+0.85` (percentage points), `+1 536`."""
        size = self.bare(abs(difference))
        sign = "−" if difference < 0 else "+"
        return f"{sign}{size}" if any(digit in "123456789" for digit in size) else size

    def mean_and_spread(self, values: Sequence[float], *, unit: bool = False) -> str:
        """`0.0958 ± 0.0127`, `97.10 ± 0.31`; `9 850`, only the mean, for a count or one value.

        With its unit, for a sentence: `97.10 % ± 0.31`.
        """
        around = spread(values) if self.digits else None
        middle = (self.shown if unit else self.bare)(mean(values))
        return middle + ("" if around is None else f" ± {self.bare(around)}")

    def of_seeds(self, std: float | None, seeds: int) -> str:
        """` ± 0.12 (3 seeds)`; empty for a single seed, which has no spread."""
        return "" if std is None else f" ± {self.bare(std)} ({seeds} seeds)"


def _of_images(images: str) -> dict[str, Measure]:
    prefix = "train" if images == "training" else images
    error = Measure(words=f"{images} error", factor=100, digits=2, unit=" %")
    accuracy = replace(error, words=f"{images} accuracy", lower_is_better=False)
    loss = Measure(words=f"{images} loss")
    return {f"{prefix}_loss": loss, f"{prefix}_error": error, f"{prefix}_accuracy": accuracy}


MEASURES: Mapping[str, Measure] = {
    **_of_images("training"),
    DEFAULT_OBJECTIVE: Measure(words=OBJECTIVES[DEFAULT_OBJECTIVE].label),
    **_of_images("validation"),
    **_of_images("test"),
    "parameters": Measure(words="number of parameters", digits=0),
    "multiply_adds": Measure(words="multiply-adds for one image", digits=0),
}


def measure_of(name: str) -> Measure:
    """One of MEASURES, or another metric that the study records."""
    if name in MEASURES:
        return MEASURES[name]
    known = METRICS.get(name)  # None: the user's own, whose file is not loaded
    lower = known is None or not known.higher_is_better
    return Measure(words=name.replace("_", " "), lower_is_better=lower)


def measured(trial: TrialView, name: str) -> float | None:
    """At the trial's best epoch; None if it was not measured.

    Losses in nats; errors and accuracies are shares in [0, 1].
    """
    if name in SIZES:
        return trial.parameters if name == "parameters" else trial.multiply_adds
    best = trial.best
    if best is None:
        return None
    if name in OBJECTIVES:
        value = OBJECTIVES[name].of(best)
    elif name in best.metrics:
        value = best.metrics[name]
    elif name.endswith("accuracy"):
        value = 1 - getattr(best, name.replace("accuracy", "error"), math.nan)
    else:
        value = getattr(best, name, math.nan)
    return value if math.isfinite(value) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """The accuracy of one training, or the mean of several, on the same images."""

    mean: float  # in [0, 1]
    images: int  # that each training was scored on
    seeds: int = 1  # number of trainings
    seed_std: float | None = None  # over the trainings; None for a single one

    @property
    def sampling_error(self) -> float:
        return sampling_error(self.mean, self.images)

    def __str__(self) -> str:
        """`93.54 % ± 0.25 (sampling) ± 0.12 (3 seeds)`; without the last part for one training."""
        text = f"{100 * self.mean:.2f} % ± {100 * self.sampling_error:.2f} (sampling)"
        return text + MEASURES["test_accuracy"].of_seeds(self.seed_std, self.seeds)

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return {
            "sampling_error": self.sampling_error,
            "seed_std": self.seed_std,
            "images": self.images,
            "seeds": self.seeds,
            "in_words": str(self),
            "meaning": "sampling_error: one binomial standard error of the mean accuracy on that "
            "many images; seed_std: sample standard deviation of the accuracy over the seeds, null "
            "for one seed",
        }


def accuracy_of(errors: Sequence[float], images: int) -> Accuracy:
    """From the errors of trainings, in [0, 1], each measured on this many images."""
    std = spread(errors)
    return Accuracy(mean=1 - mean(errors), images=images, seeds=len(errors), seed_std=std)


def recorded_accuracy(figures: Mapping[str, Any]) -> Accuracy:
    """From the metrics of a test evaluation, as the database stores them."""
    mean, images, seeds, std = (figures[key] for key in ("accuracy", "images", "seeds", "std"))
    return Accuracy(mean=mean, images=images, seeds=seeds, seed_std=std)


def sampling_error(share: float, images: int) -> float:
    """Standard error of a share counted on `images` independent images: sqrt(p(1-p)/n).

    Without a mistake, or a hit, it is that of half an image, because no count is certain.
    """
    inside = min(max(share, 0.5 / images), 1 - 0.5 / images)
    return math.sqrt(inside * (1 - inside) / images)


def legend(images: int, seeds: int = 1) -> str:
    """What the ± signs mean, as a sentence."""
    sampling = f"± (sampling) is one binomial standard error of {grouped(images)} images"
    if seeds == 1:
        return f"{sampling}; from one seed, so the spread over seeds is not included."
    return f"{sampling}; ± ({seeds} seeds) is the standard deviation over the seeds."


def busy_seconds(view: StudyView) -> float:
    """Wall-clock time while at least one trial was in training: pauses do not count.

    Trials of one worker take turns, so their seconds are laid end to end here.
    """
    begins: dict[str, float] = {}  # by worker: start of its next span
    spans = []
    rows = [row for trial in view.trials for row in trial.reports]
    for row in sorted(rows, key=lambda row: row.reported_at, reverse=True):
        end = min(row.reported_at, begins.get(row.worker, math.inf))
        begins[row.worker] = end - row.seconds
        spans.append((end - row.seconds, end))
    total, until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def time_spent(view: StudyView) -> str:
    """`12 min, pauses not counted`, and the sum over trials if that differs."""
    wall = duration(busy_seconds(view))
    total = duration(sum(trial.seconds for trial in view.trials))
    added = f" ({total} added up over trials)" if total != wall else ""
    return f"{wall}{added}, pauses not counted"


def objective_in_words(view: StudyView, value: float) -> str:
    """`0.1975`, `6.12 %`: a value of the study's objective."""
    return measure_of(view.spec.objective).shown(value)


def guessing_value(view: StudyView) -> float:
    """The study's objective if all classes are predicted as equally likely: nats or a share."""
    classes = max(2, len(view.dataset.class_names))
    return math.log(classes) if view.spec.value.unit else 1 - 1 / classes
