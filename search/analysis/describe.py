"""A configuration in words: whole sentences' worth of it, or as few as a table has room for."""

from __future__ import annotations

from collections.abc import Iterator

from models import Architecture, ConvNetConfig, MLPConfig, ResNetConfig
from search.analysis.wording import grouped, printable
from search.spec.config import TrialConfig
from search.spec.recipe import Recipe

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
}


def describe_config(config: TrialConfig, parameters: int | None = None) -> str:
    """`3 convolutions of 32, 64, 128 channels, 3x3, batch norm, ...; Adam at 0.0021, ...`."""
    network = describe_network(config.architecture, parameters)
    return f"{network}; {describe_training(config)}"


def describe_network(architecture: Architecture, parameters: int | None = None) -> str:
    """Everything that sets it apart but dropout, and the number of parameters where known."""
    match architecture:
        case ConvNetConfig():
            parts = [*_convolutions(architecture), _hidden(architecture.hidden)]
            parts.append(ACTIVATIONS[architecture.activation])
        case MLPConfig():
            parts = [f"no convolutions, {_hidden(architecture.hidden)}"]
            parts += ["batch norm"] * architecture.batch_norm
            parts.append(ACTIVATIONS[architecture.activation])
        case ResNetConfig():
            parts = ["ResNet-18"]
            if architecture.side is not None:
                parts.append(f"images scaled to {architecture.side}x{architecture.side}")
    if parameters is not None:
        parts.append(f"{grouped(parameters)} parameters")
    return ", ".join(parts)


def describe_training(config: TrialConfig) -> str:
    """Optimiser, schedule and all that regularises: weight decay, dropout, augmentation."""
    recipe = config.recipe
    parts = [
        f"{_optimizer(recipe)} at {compact(recipe.learning_rate)}",
        f"{recipe.schedule} over {recipe.epochs} epochs",
        f"batches of {recipe.batch_size}",
        _weight_decay(recipe),
        *(_dropout(config.architecture) or ["no dropout"]),
    ]
    if recipe.weight_averaging:
        parts.append(f"weights averaged over {compact(recipe.weight_averaging)} of the steps")
    if recipe.label_smoothing:
        parts.append(f"label smoothing {compact(recipe.label_smoothing)}")
    if recipe.initial_weights is not None:
        parts.append(f"weights from {printable(recipe.initial_weights)}")
    if recipe.frozen_epochs:
        parts.append(f"the last layer alone for {recipe.frozen_epochs} epochs")
    if recipe.gradient_clip is not None:
        parts.append(f"gradient clipped at {compact(recipe.gradient_clip)}")
    parts.append(_augmentation(recipe) or "no augmentation")
    return ", ".join(parts)


def short_config(config: TrialConfig) -> str:
    """The same in the few words that a line has room for, the most telling ones first."""
    architecture, recipe = config.architecture, config.recipe
    parts = [
        _widths(architecture),
        f"lr {compact(recipe.learning_rate)}",
        _augmentation(recipe).replace(" at ", " "),
        *(text.replace("dropout", "drop") for text in _dropout(architecture)[:1]),
    ]
    if recipe.weight_decay_kind != "none" and recipe.weight_decay:
        parts.append(f"{recipe.weight_decay_kind} {compact(recipe.weight_decay)}")
    return ", ".join(part for part in parts if part)


def _widths(architecture: Architecture) -> str:
    match architecture:
        case ConvNetConfig(channels=widths) | MLPConfig(hidden=widths):
            return "-".join(map(str, widths)) or "linear"
        case ResNetConfig():
            return "ResNet-18"


def compact(number: float) -> str:
    """Two significant digits: `0.0021`, `3.1e-4`, `0.3`."""
    text = f"{number:.2g}"
    if number and abs(number) < 1e-3:
        mantissa, exponent = f"{number:.1e}".split("e")
        text = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return text


def _convolutions(net: ConvNetConfig) -> Iterator[str]:
    many = len(net.channels) > 1
    kind = "residual convolutions" if net.residual else "convolutions" if many else "convolution"
    yield f"{len(net.channels)} {kind} of {_listed(net.channels)} channels"
    kernels = net.kernels if len(set(net.kernels)) > 1 else net.kernels[:1]
    yield ", ".join(f"{side}x{side}" for side in kernels)
    if net.padding != "same":
        padding = set(net.paddings)
        yield "without padding" if padding == {0} else f"padding {_listed(tuple(net.paddings))}"
    if net.batch_norm:
        behind = " behind the pooling" if net.batch_norm_place == "pool" else ""
        layers = f" in {_listed(net.batch_norm)}" if isinstance(net.batch_norm, tuple) else ""
        yield f"batch norm{behind}{layers}"
    match net.pool_after:
        case ():
            yield "no pooling"
        case "every":
            yield f"{net.pool} pooling after each"
        case "auto":
            yield f"{net.pool} pooling"
        case numbers:
            yield f"{net.pool} pooling after {_listed(numbers)}"
    if net.head == "global":
        yield "global average pooling"


def _hidden(units: tuple[int, ...]) -> str:
    match len(units):
        case 0:
            return "no hidden layer"
        case 1:
            return f"a hidden layer of {units[0]}"
        case _:
            return f"hidden layers of {_listed(units)}"


def _optimizer(recipe: Recipe) -> str:
    if recipe.optimizer == "sgd":
        momentum = f"Nesterov momentum {compact(recipe.momentum)}" if recipe.momentum else "plain"
        return f"SGD ({momentum})"
    return "AdamW" if recipe.weight_decay_kind == "decoupled" and recipe.weight_decay else "Adam"


def _weight_decay(recipe: Recipe) -> str:
    if recipe.weight_decay_kind == "none" or not recipe.weight_decay:
        return "no weight decay"
    strength = compact(recipe.weight_decay)
    if recipe.weight_decay_kind == "l2":
        return f"L2 term {strength} in the loss"
    return f"{recipe.weight_decay_kind} weight decay {strength}"


def _dropout(architecture: Architecture) -> list[str]:
    if not isinstance(architecture, ConvNetConfig):
        return [f"dropout {compact(architecture.dropout)}"] if architecture.dropout else []
    places = ((architecture.dropout_linear, ""), (architecture.dropout_conv, " after convolutions"))
    return [f"dropout {compact(rate)}{where}" for rate, where in places if rate]


def _augmentation(recipe: Recipe) -> str:
    if recipe.augmentation == "none" or not recipe.augmentation_strength:
        return ""
    return f"{recipe.augmentation} at {compact(recipe.augmentation_strength)}"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
