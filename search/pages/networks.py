"""Networks layer by layer, as a report shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.summary import LayerRow, anatomy
from search.analysis.describe import describe_config
from search.analysis.wording import grouped, percent
from search.store.views import StudyView, TrialView


def best_network(view: StudyView, trial: TrialView, whose: str) -> dict[str, Any] | None:
    """`whose`: `the best trial`."""
    if trial.config is None:
        return None
    network, shape = trial.config.architecture, view.dataset.image_shape
    return {
        "whose": whose,
        "number": trial.number,
        "described": describe_config(trial.config, trial.parameters),
        "layers": layer_values(view, anatomy(network, shape, len(view.dataset.class_names))),
    }


def layer_values(view: StudyView, layers: Sequence[LayerRow]) -> dict[str, Any]:
    """Layer by layer, each with its parameters by formula, and their sum."""
    total = sum(layer.parameters for layer in layers)
    rows = [
        (
            layer.name,
            "×".join(map(str, layer.output)),
            layer.size.replace("*", "·"),
            f"{layer.computed.replace('*', '·')} = {grouped(layer.parameters)}"
            if layer.parameters
            else "",
            percent(layer.parameters / total, 1) if layer.parameters else "",
            grouped(layer.multiply_adds) if layer.multiply_adds else "",
        )
        for layer in layers
    ]
    adds = grouped(sum(layer.multiply_adds for layer in layers))
    largest = max(layers, key=lambda layer: layer.parameters)
    sums = " + ".join(grouped(layer.parameters) for layer in layers if layer.parameters)
    return {
        "rows": [*rows, ("total", "", "", grouped(total), percent(1, 1), adds)],
        "image": " × ".join(map(str, view.dataset.image_shape)),
        "classes": len(view.dataset.class_names),
        "sums": f"{sums} = {grouped(total)}",
        "largest": f"{largest.name} holds {percent(largest.parameters / total, 1)}",
    }
