"""Fully connected networks, which are also the last part of a convolutional network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING

from models.family import (
    Architecture,
    Family,
    ImageShape,
    Parameter,
    check_fields,
    choice,
    counts,
    number,
)

if TYPE_CHECKING:
    from torch import nn

# Classes of torch.nn. Not in place: that gained nothing measurable on CPU, and would overwrite the
# maps that a forward hook keeps.
ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}
PARAMETERS = {
    "batch_norm": Parameter(
        kinds=(bool, tuple),
        default=True,
        least=1,
        description="in all layers; of a cnn, also in the listed convolutions only",
    ),
    "activation": choice(ACTIVATIONS, "relu", "nonlinearity"),
    "hidden": counts((128,), "units of the hidden layers"),
    "dropout": number(0.0, "rate in the linear part", below=1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MLPConfig(Architecture):
    """Hidden layers (linear, batch norm if wanted, activation, dropout), then the output.

    Without hidden layers this is softmax regression, and dropout acts on the pixels.
    """

    hidden: tuple[int, ...]
    activation: str = "relu"
    dropout: float = 0.0  # in [0, 1)
    batch_norm: bool = False

    def __post_init__(self) -> None:
        all_or_none = Parameter(kinds=(bool,), default=False, description="in all layers")
        check_fields(asdict(self), {**PARAMETERS, "batch_norm": all_or_none})


def _build(config: MLPConfig, image_shape: ImageShape, classes: int) -> nn.Module:
    from torch import nn

    from models.blocks import sequence

    layers = linear_layers(config, prod(image_shape), classes)
    return sequence([("flatten", nn.Flatten()), *layers])


def activation(name: str) -> nn.Module:
    """A fresh module of one of the ACTIVATIONS."""
    from torch import nn

    module: nn.Module = getattr(nn, ACTIVATIONS[name])()
    return module


def linear_layers(
    config: MLPConfig, features: int, classes: int, convolutions: int = 0
) -> list[tuple[str, nn.Module]]:
    """The layers from a flat input of `features` values to the logits.

    Dropout comes before every linear layer but the first, and before the output in any case.
    Activation numbers continue those of the `convolutions`.
    """
    from torch import nn

    layers: list[tuple[str, nn.Module]] = []
    for layer, units in enumerate(config.hidden, start=1):
        layers.append((f"linear{layer}", nn.Linear(features, units)))
        if config.batch_norm:
            layers.append((f"norm{layer}", nn.BatchNorm1d(units)))
        name = f"{config.activation}{convolutions + layer}"
        layers.append((name, activation(config.activation)))
        if config.dropout:
            layers.append((f"dropout{layer}", nn.Dropout(config.dropout)))
        features = units
    if config.dropout and not config.hidden:
        layers.append(("dropout1", nn.Dropout(config.dropout)))
    return [*layers, ("output", nn.Linear(features, classes))]


FAMILY = Family(
    description="fully connected network",
    config=MLPConfig,
    build=_build,
    parameters=PARAMETERS,
    adjust=lambda values: {"batch_norm": bool(values["batch_norm"])},
)
