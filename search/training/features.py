"""What a network's stages make of images: feature maps, and how much each unit of the first varies.

A stage is a convolution, or a block around which a shortcut goes, with the activation, pooling and
normalisation behind it. Shapes: N images, C channels, H x W pixels, O units of the first stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from search.training.evaluate import logits


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StageMaps:
    """The output of one stage for one image, as the next stage gets it; name: of its beginning."""

    name: str
    maps_CHW: NDArray[np.float32]


def stages(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name of a stage's first module, its last module), in running order; none of an MLP."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_children():
        if isinstance(module, nn.Conv2d) or any(True for _ in module.children()):
            found.append((name, module))
        elif isinstance(module, nn.Flatten | nn.Linear | nn.AdaptiveAvgPool2d | nn.Dropout):
            break
        elif found:
            found[-1] = (found[-1][0], module)
    return found


def stage_maps(
    model: nn.Module, image_CHW: torch.Tensor, mean_C: torch.Tensor, std_C: torch.Tensor
) -> list[StageMaps]:
    """Of one uint8 image on the model's device."""
    outputs: dict[str, torch.Tensor] = {}
    with _watched(model, outputs):
        logits(model, image_CHW[None], mean_C, std_C)
    return [
        StageMaps(name=name, maps_CHW=maps_1CHW[0].float().cpu().numpy())
        for name, maps_1CHW in outputs.items()
        if maps_1CHW.ndim == 4
    ]


def first_stage_ranges(
    model: nn.Module, images_NCHW: torch.Tensor, mean_C: torch.Tensor, std_C: torch.Tensor
) -> NDArray[np.float32]:
    """How far each first-stage unit's output varies over all images, highest minus lowest: (O,)."""
    highs, lows = [], []
    for batch_NCHW in torch.split(images_NCHW, 250):
        outputs: dict[str, torch.Tensor] = {}
        with _watched(model, outputs):
            logits(model, batch_NCHW, mean_C, std_C)
        first_NCHW = next(iter(outputs.values())).float()
        highs.append(first_NCHW.amax((0, 2, 3)))
        lows.append(first_NCHW.amin((0, 2, 3)))
    ranges_O = torch.stack(highs).amax(0) - torch.stack(lows).amin(0)
    result: NDArray[np.float32] = ranges_O.cpu().numpy()
    return result


@contextmanager
def _watched(model: nn.Module, outputs: dict[str, torch.Tensor]) -> Iterator[None]:
    """Within, the output of each stage is kept under its name."""

    def keep(name: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            outputs[name] = output

        return hook

    handles = [
        module.register_forward_hook(keep(name))  # type: ignore[arg-type]
        for name, module in stages(model)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
