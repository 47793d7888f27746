"""Everything about how a network is trained that is not the network itself."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from data.augmentations import AUGMENTATIONS, MAX_STRENGTH

OptimizerName = Literal["adam", "sgd"]
WeightDecayKind = Literal["none", "l2", "coupled", "decoupled"]
ScheduleName = Literal["constant", "step", "cosine", "one-cycle"]

MOST_BATCH = 10**6  # images a step
# Bad configurations show after so much of the first epoch, scored on so much of the validation
# examples: on all of them, scoring a look could cost more than the training ahead of it.
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
        weight_decay_kind, weight_decay: see `search.training.optim`; the strength is >= 0.
        schedule: see `search.training.optim.learning_rate_factor`.
        weight_averaging: what is validated and kept is a mean of the weights that reaches back
            over this share of the steps so far, see `search.training.averaging`; in [0, 1], 0 for
            the weights as they are.
        label_smoothing: in [0, 1).
        gradient_clip: largest global gradient norm, or None.
        augmentation, augmentation_strength: a policy of `data.augmentations` and its strength.
        initial_weights: where all layers but the last start, see
            `search.training.initial_weights`; None: random.
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
    schedule: ScheduleName = "one-cycle"
    weight_averaging: float = 0.0
    label_smoothing: float = 0.0
    gradient_clip: float | None = None
    augmentation: str = "none"
    augmentation_strength: float = 1.0
    initial_weights: str | None = None
    frozen_epochs: int = 0

    def __post_init__(self) -> None:
        _check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _check(self.patience is None or self.patience >= 1, "patience", self.patience, ">= 1")
        in_range = 1 <= self.batch_size <= MOST_BATCH
        _check(in_range, "batch_size", self.batch_size, f"from 1 to {MOST_BATCH}")
        _among("optimizer", self.optimizer, get_args(OptimizerName))
        _check(_positive(self.learning_rate), "learning_rate", self.learning_rate, "above 0")
        _check(0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        _among("weight_decay_kind", self.weight_decay_kind, get_args(WeightDecayKind))
        finite = math.isfinite(self.weight_decay) and self.weight_decay >= 0
        _check(finite, "weight_decay", self.weight_decay, "0 or more")
        _among("schedule", self.schedule, get_args(ScheduleName))
        reach = self.weight_averaging
        _check(0 <= reach <= 1, "weight_averaging", reach, "in [0, 1]")
        _check(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "in [0, 1)")
        clip = self.gradient_clip
        _check(clip is None or _positive(clip), "gradient_clip", clip, "above 0")
        _among("augmentation", self.augmentation, tuple(AUGMENTATIONS))
        strength = self.augmentation_strength
        in_range = 0 <= strength <= MAX_STRENGTH
        _check(in_range, "augmentation_strength", strength, f"in [0, {MAX_STRENGTH:g}]")
        _check(self.frozen_epochs >= 0, "frozen_epochs", self.frozen_epochs, "0 or more")
        _check(
            self.frozen_epochs == 0 or self.initial_weights is not None,
            "frozen_epochs",
            self.frozen_epochs,
            "0 without initial_weights: random layers would stay random",
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `Recipe(**d)` gives the recipe back."""
        return dataclasses.asdict(self)


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _check(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise RecipeError(f"{name} must be {wanted}, but got {value!r}")


def _among(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RecipeError(f"{name} must be one of {', '.join(choices)}, but got {value!r}")
