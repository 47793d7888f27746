"""Stages of networks, and what they make of images."""

import pytest
import torch

from models import Architecture, ConvNetConfig, MLPConfig, build
from search.training.task import stage_maps

MEAN, STD = torch.tensor([0.0]), torch.tensor([1.0])


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (ConvNetConfig(channels=(4, 6)), [("conv1", (4, 14, 14)), ("conv2", (6, 7, 7))]),
        (
            ConvNetConfig(channels=(4, 4, 8), residual=True, head="global", dropout_conv=0.2),
            [("conv1", (4, 14, 14)), ("residual3", (8, 3, 3))],
        ),
        (MLPConfig(hidden=(5,)), []),
    ],
)
def test_each_stage_is_shown_once(
    architecture: Architecture, expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    model = build(architecture, (1, 28, 28), 3)
    image = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8)
    found = stage_maps(model, image, MEAN, STD)
    assert [(name, maps_CHW.shape) for name, maps_CHW in found.items()] == expected


@pytest.mark.usefixtures("in_float32")
def test_the_maps_are_what_the_layers_give() -> None:
    model = build(ConvNetConfig(channels=(4, 6)), (1, 28, 28), 3).eval()
    image = torch.randint(0, 256, (1, 28, 28), dtype=torch.uint8)
    found = stage_maps(model, image, MEAN, STD)
    maps = {f"relu{name[-1]}": maps_CHW for name, maps_CHW in found.items()}
    x = image[None].float() / 255
    for name, module in model.named_children():
        x = module(x)
        if name in maps:
            assert torch.allclose(torch.from_numpy(maps.pop(name)), x[0], atol=1e-5)
    assert not maps
