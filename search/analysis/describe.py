"""A configuration in words: in full, or short enough for a table."""

from __future__ import annotations

from dataclasses import MISSING, fields

from data.errors import grouped
from models import Architecture, family_of, to_dict
from models.family import compact
from search.analysis.wording import printable
from search.spec.config import TrialConfig
from search.spec.recipe import Recipe


def describe_config(config: TrialConfig, parameters: int | None = None) -> str:
    """`cnn, channels 32, 64, 128, batch norm; Adam at 0.0021, ...`: see `describe_network`."""
    network = describe_network(config.architecture, parameters)
    return f"{network}; {describe_training(config)}"


def describe_network(architecture: Architecture, parameters: int | None = None) -> str:
    """All but the family's defaults and dropout; with the number of parameters, if known."""
    parts, _ = _words(architecture)
    size = [] if parameters is None else [f"{grouped(parameters)} parameters"]
    return ", ".join([*parts, *size])


def _words(architecture: Architecture) -> tuple[list[str], list[str]]:
    """(`cnn`, `channels 32, 64`, `batch norm`), (`dropout 0.2`): named like the parameters."""
    family = family_of(architecture)
    defaults = {one.name: one.default for one in fields(architecture)}  # type: ignore[arg-type]
    network, dropout = [str(to_dict(architecture)["family"])], list[str]()
    for name, value in architecture.values().items():
        if value == defaults.get(name, MISSING):
            continue
        text = family.renamed.get(name, name).replace("_", " ")
        if isinstance(value, bool):
            text = text if value else f"no {text}"
        elif isinstance(value, tuple):
            text = f"{text} {', '.join(map(str, value)) or 'none'}"
        else:
            text = f"{text} {compact(value) if isinstance(value, float) else value}"
        (dropout if name.startswith("dropout") else network).append(text)
    return network, dropout


def describe_training(config: TrialConfig) -> str:
    """Optimiser, schedule and regularisation: weight decay, dropout, augmentation."""
    recipe, (_, dropout) = config.recipe, _words(config.architecture)
    parts = [
        f"{_optimizer(recipe)} at {compact(recipe.learning_rate)}",
        f"{recipe.schedule} over {recipe.epochs} epochs",
        f"batches of {recipe.batch_size}",
        _weight_decay(recipe),
        *dropout,
    ]
    if recipe.weight_averaging:
        parts.append(f"weights averaged over {compact(recipe.weight_averaging)} of the steps")
    if recipe.label_smoothing:
        parts.append(f"label smoothing {compact(recipe.label_smoothing)}")
    if recipe.initial_weights is not None:
        parts.append(f"weights from {printable(recipe.initial_weights)}")
    if recipe.frozen_epochs:
        parts.append(f"only the last layer for {recipe.frozen_epochs} epochs")
    if recipe.gradient_clip is not None:
        parts.append(f"gradient clipped at {compact(recipe.gradient_clip)}")
    parts.append(_augmentation(recipe) or "no augmentation")
    return ", ".join(parts)


def short_config(config: TrialConfig) -> str:
    """The same, short enough for one line, the most informative parts first."""
    recipe, (network, dropout) = config.recipe, _words(config.architecture)
    channels = config.architecture.values().get("channels")
    decays = recipe.weight_decay_kind != "none" and recipe.weight_decay
    parts = [
        "-".join(map(str, channels)) if isinstance(channels, tuple) else " ".join(network),
        f"lr {compact(recipe.learning_rate)}",
        _augmentation(recipe).replace(" at ", " "),
        *(text.replace("dropout", "drop") for text in dropout),
        f"{recipe.weight_decay_kind} {compact(recipe.weight_decay)}" if decays else "",
    ]
    return ", ".join(filter(None, parts))


def _optimizer(recipe: Recipe) -> str:
    if recipe.optimizer == "sgd":
        momentum = f"Nesterov momentum {compact(recipe.momentum)}" if recipe.momentum else "plain"
        return f"SGD ({momentum})"
    return "AdamW" if recipe.weight_decay_kind == "decoupled" and recipe.weight_decay else "Adam"


def _weight_decay(recipe: Recipe) -> str:
    kind, strength = recipe.weight_decay_kind, compact(recipe.weight_decay)
    if kind == "none" or not recipe.weight_decay:
        return "no weight decay"
    return f"L2 term {strength} in the loss" if kind == "l2" else f"{kind} weight decay {strength}"


def _augmentation(recipe: Recipe) -> str:
    if recipe.augmentation == "none" or not recipe.augmentation_strength:
        return ""
    return f"{recipe.augmentation} at {compact(recipe.augmentation_strength)}"
