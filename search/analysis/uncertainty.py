"""How uncertain a figure is: worked out and worded here for every page, table and file.

Two things make an accuracy uncertain, and no ± stands without saying which of them it is. Which
images it was counted on: `± 0.26 (sampling)`, one binomial standard error. And which seed it was
trained with: `± 0.12 (3 seeds)`, the sample standard deviation over the trainings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from search.analysis.wording import grouped, spread

MEANING = (
    "sampling_error: one binomial standard error of the mean accuracy, of counting it on so many "
    "images; seed_std: sample standard deviation of the accuracy over the seeds, null for one"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """The accuracy of one training, or the mean of several, on the same images.

    Attributes:
        mean: in [0, 1].
        images: that each training was scored on.
        seeds: how many trainings.
        seed_std: over the trainings; None of a single one.
    """

    mean: float
    images: int
    seeds: int = 1
    seed_std: float | None = None

    @property
    def sampling_error(self) -> float:
        return sampling_error(self.mean, self.images)

    def __str__(self) -> str:
        """`93.54 % ± 0.25 (sampling) ± 0.12 (3 seeds)`; of one training without the latter."""
        text = f"{100 * self.mean:.2f} % ± {100 * self.sampling_error:.2f} (sampling)"
        return text + seeds_in_words(self.seed_std, self.seeds, 2, 100)

    def to_dict(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return {
            "sampling_error": self.sampling_error,
            "seed_std": self.seed_std,
            "images": self.images,
            "seeds": self.seeds,
            "in_words": str(self),
            "meaning": MEANING,
        }


def accuracy_of(errors: Sequence[float], images: int) -> Accuracy:
    """Of trainings with these errors, in [0, 1], each on so many images."""
    return Accuracy(
        mean=1 - mean(errors), images=images, seeds=len(errors), seed_std=spread(errors)
    )


def recorded_accuracy(figures: Mapping[str, Any]) -> Accuracy:
    """Of a test evaluation, as the database keeps it."""
    return Accuracy(
        mean=figures["accuracy"],
        images=figures["images"],
        seeds=figures["seeds"],
        seed_std=figures["std"],
    )


def sampling_error(share: float, images: int) -> float:
    """Standard error of a share counted on `images` independent images: sqrt(p(1-p)/n).

    Without a mistake, or a hit, it is that of half an image: nothing counted is certain.
    """
    inside = min(max(share, 0.5 / images), 1 - 0.5 / images)
    return math.sqrt(inside * (1 - inside) / images)


def seeds_in_words(std: float | None, seeds: int, digits: int, factor: float = 1) -> str:
    """` ± 0.12 (3 seeds)`; empty for a single seed, which has no spread."""
    return "" if std is None else f" ± {factor * std:.{digits}f} ({seeds} seeds)"


def legend(images: int, seeds: int = 1) -> str:
    """What the signs mean, as a sentence."""
    sampling = f"± (sampling) is one binomial standard error of {grouped(images)} images"
    if seeds == 1:
        return f"{sampling}; of one seed, so how much seeds differ is not in it."
    return f"{sampling}; ± ({seeds} seeds) is the standard deviation over the seeds."
