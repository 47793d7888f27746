"""Fully connected networks, which are also what a convolutional network ends in."""

from dataclasses import dataclass
from typing import get_args

from models.checks import check_choice, check_counts, check_rate, check_switch
from models.layers import (
    Activation,
    ActivationName,
    BatchNorm,
    Chain,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Shape,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MLPConfig:
    """Hidden layers of `hidden` units each, then one output for each class.

    A hidden layer is linear, batch norm if wanted, activation, dropout. Without hidden layers
    this is softmax regression, and dropout acts on the pixels.
    """

    hidden: tuple[int, ...]
    activation: ActivationName = "relu"
    dropout: float = 0.0  # in [0, 1)
    batch_norm: bool = False

    def __post_init__(self) -> None:
        check_counts("hidden", self.hidden)
        check_choice("activation", self.activation, get_args(ActivationName))
        check_rate("dropout", self.dropout)
        check_switch("batch_norm", self.batch_norm)


def mlp_layers(config: MLPConfig, image_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """The plan of `config` for images of shape (channels, height, width)."""
    chain = Chain(image_shape)
    chain.add(Flatten(name="flatten", input=chain.shape))
    add_linear_layers(chain, config, classes)
    return tuple(chain.layers)


def add_linear_layers(chain: Chain, config: MLPConfig, classes: int, convolutions: int = 0) -> None:
    """Ends `chain`, which must be flat by now, with the linear layers of `config`.

    Dropout stands before every linear layer but the first, and before the output in any case.
    Activations go on counting after those of the `convolutions`.
    """
    for number, units in enumerate(config.hidden, start=1):
        chain.add(Linear(name=f"linear{number}", input=chain.shape, features=units))
        if config.batch_norm:
            chain.add(BatchNorm(name=f"norm{number}", input=chain.shape))
        name = f"{config.activation}{convolutions + number}"
        chain.add(Activation(name=name, input=chain.shape, function=config.activation))
        if config.dropout:
            chain.add(Dropout(name=f"dropout{number}", input=chain.shape, rate=config.dropout))
    if config.dropout and not config.hidden:
        chain.add(Dropout(name="dropout1", input=chain.shape, rate=config.dropout))
    chain.add(Linear(name="output", input=chain.shape, features=classes))
