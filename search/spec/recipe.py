"""Everything about how a network is trained that is not the network itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, get_args

from data.augmentations import AUGMENTATIONS, MAX_STRENGTH
from search.spec.schedules import SCHEDULES

OptimizerName = Literal["adam", "sgd"]
WeightDecayKind = Literal["none", "l2", "coupled", "decoupled"]

MOST_BATCH = 10**6  # images a step
# Bad configurations show after so much of the first epoch, scored on so much of the validation
# examples: on all of them, scoring it could cost more than the training before it.
EARLY_LOOK = 1 / 3


class RecipeError(ValueError):
    """A training recipe that cannot be followed; names the value and the range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way of training: optimiser, schedule, regularisation, augmentation.

    Attributes:
        epochs: length of the learning-rate schedule and the most epochs trained, >= 1.
        patience: stop after this many epochs without a lower validation loss; None never stops.
        batch_size: images a step, >= 1.
        optimizer: `adam` (Kingma & Ba 2015; with `decoupled` decay it is AdamW) or `sgd`
            with Nesterov momentum.
        learning_rate: peak of the schedule, > 0.
        momentum: of SGD, in [0, 1). Adam's betas stay at (0.9, 0.999).
        weight_decay_kind, weight_decay: see `search.training.step`; the strength is >= 0.
        schedule: a name in `search.spec.schedules.SCHEDULES`.
        weight_averaging: what is validated and kept is a mean of the weights that reaches back
            over this share of the steps so far, see `search.training.step`; in [0, 1], 0 for
            the weights as they are.
        label_smoothing: in [0, 1).
        gradient_clip: largest global gradient norm, or None.
        augmentation, augmentation_strength: a policy of `data.augmentations` and its strength.
        initial_weights: where all layers but the last start, see
            `search.training.weights`; None: random.
        frozen_epochs: so many epochs at first train the last layer alone; needs initial weights.
    """

    epochs: int
    patience: int | None = None
    batch_size: int = 128
    optimizer: OptimizerName = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay_kind: WeightDecayKind = "none"
    weight_decay: float = 0.0
    schedule: str = "one-cycle"
    weight_averaging: float = 0.0
    label_smoothing: float = 0.0
    gradient_clip: float | None = None
    augmentation: str = "none"
    augmentation_strength: float = 1.0
    initial_weights: str | None = None
    frozen_epochs: int = 0

    def __post_init__(self) -> None:
        clip, most = self.gradient_clip, MAX_STRENGTH
        for name, holds, wanted in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("patience", self.patience is None or self.patience >= 1, ">= 1"),
            ("batch_size", 1 <= self.batch_size <= MOST_BATCH, f"from 1 to {MOST_BATCH}"),
            ("optimizer", *_among(self.optimizer, get_args(OptimizerName))),
            ("learning_rate", _positive(self.learning_rate), "above 0"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay_kind", *_among(self.weight_decay_kind, get_args(WeightDecayKind))),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("schedule", *_among(self.schedule, SCHEDULES)),
            ("weight_averaging", 0 <= self.weight_averaging <= 1, "in [0, 1]"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("gradient_clip", clip is None or _positive(clip), "above 0"),
            ("augmentation", *_among(self.augmentation, AUGMENTATIONS)),
            ("augmentation_strength", 0 <= self.augmentation_strength <= most, f"in [0, {most:g}]"),
            ("frozen_epochs", self.frozen_epochs >= 0, "0 or more"),
            (
                "frozen_epochs",
                self.frozen_epochs == 0 or self.initial_weights is not None,
                "0 without initial_weights: random layers would stay random",
            ),
        ):
            if not holds:
                raise RecipeError(f"{name} must be {wanted}, but got {getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `Recipe(**d)` gives the recipe back."""
        return dataclasses.asdict(self)


def _positive(value: float) -> bool:
    return 0 < value < math.inf


def _among(value: object, choices: Collection[str]) -> tuple[bool, str]:
    return value in choices, f"one of {', '.join(choices)}"
