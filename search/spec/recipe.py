"""Everything about how a network is trained that is not the network itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from data.augmentations import AUGMENTATIONS, MAX_STRENGTH
from models import Parameter
from models.family import choice, count, number
from search.spec.domains import SpecError, check_fields
from search.spec.schedules import SCHEDULES

OptimizerName = Literal["adam", "sgd"]
WeightDecayKind = Literal["none", "l2", "coupled", "decoupled"]

# Bad configurations show after this share of the first epoch, scored on this share of the
# validation examples: scoring all of them could cost more than the training before it.
PARTIAL_EPOCH = 1 / 3


# What a study can set in a recipe. Extensions may add entries to the registries used as options.
RECIPE: Mapping[str, Parameter] = {
    "batch_size": count(128, "images per step", most=10**6),
    "optimizer": choice(
        get_args(OptimizerName), "adam", "kind of update; sgd with Nesterov momentum"
    ),
    "learning_rate": number(2e-3, "peak of the schedule"),
    "momentum": number(0.9, "of sgd", below=1),
    "weight_decay_kind": choice(
        get_args(WeightDecayKind),
        "decoupled",
        "l2: a term of the loss; coupled: a term of the gradient; decoupled: beside the gradient, "
        "as in AdamW",
    ),
    "weight_decay": number(1e-2, "strength of the weight decay"),
    "schedule": choice(SCHEDULES, "one-cycle", "learning-rate schedule"),
    "weight_averaging": number(
        0.0, "share of the steps whose mean weights are validated and kept; 0: none", most=1
    ),
    "label_smoothing": number(0.0, "share of the target spread over all classes", below=1),
    "gradient_clip": number(0.0, "maximum norm of the gradient; 0: no limit"),
    "augmentation": choice(AUGMENTATIONS, "none", "policy of random image transforms"),
    "augmentation_strength": number(1.0, "1 is usual, 0 none", most=MAX_STRENGTH),
    "initial_weights": Parameter(
        kinds=(str,),
        default="",
        description='"imagenet", a finalised model\'s folder, a file; "": random',
    ),
    "frozen_epochs": count(0, "initial epochs that train only the last layer", least=0),
}
OPTIONAL = ("gradient_clip", "initial_weights")  # None in a recipe if empty
_FIELDS = {"epochs": count(1, "of training"), "patience": count(1, "of training"), **RECIPE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way of training: optimiser, schedule, regularisation, augmentation.

    `RECIPE` gives the meaning of each field and its allowed values. In addition:

    Attributes:
        epochs: length of the learning-rate schedule and maximum number of epochs, >= 1.
        patience: stop after this many epochs without a lower value of the study's objective; None
            never stops.
        learning_rate: > 0. The betas of `adam` stay at (0.9, 0.999) (Kingma & Ba 2015); with
            `decoupled` decay it is AdamW.
        weight_averaging: what is validated and kept is a mean of the weights that reaches back
            over this share of the steps so far, see `search.training.step`.
        gradient_clip, initial_weights: None for none.
        frozen_epochs: initial epochs that train only the last layer; needs initial weights.
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
        values = {name: getattr(self, name) for name in _FIELDS}
        check_fields(values, _FIELDS, optional=(*OPTIONAL, "patience"))
        for name in ("learning_rate", "gradient_clip"):
            if getattr(self, name) == 0:
                raise SpecError(name, f"{name} must be above 0, but got 0")
        if self.frozen_epochs and self.initial_weights is None:
            raise SpecError(
                "frozen_epochs",
                "frozen_epochs must be 0 without initial_weights: random layers would stay "
                f"random, but got {self.frozen_epochs}",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `Recipe(**d)` gives the recipe back."""
        return dataclasses.asdict(self)


def idle(recipe: Recipe) -> set[str]:
    """Settings without effect on the recipe, because others switch them off."""
    pairs = [("weight_decay_kind", "weight_decay"), ("augmentation", "augmentation_strength")]
    found = {"momentum"} if recipe.optimizer == "adam" else set()
    for kind, strength in pairs:
        if getattr(recipe, kind) == "none":
            found.add(strength)
        elif getattr(recipe, strength) == 0:
            found.add(kind)
    return found
