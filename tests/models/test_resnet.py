"""ResNet-18: torchvision's, layer for layer."""

import pytest
import torch
import torchvision

from models import ArchitectureError, ResNetConfig, build, from_dict
from models.resnet import torchvision_name


def test_equal_to_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=10).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # else its numbers would not tell
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    ours = build(ResNetConfig(), (3, 64, 64), 10).eval()
    weights = theirs.state_dict()
    ours.load_state_dict({name: weights[torchvision_name(name)] for name in ours.state_dict()})
    assert {torchvision_name(name) for name in ours.state_dict()} == set(weights)
    images_NCHW = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(images_NCHW), theirs(images_NCHW))


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        ({"side": 8}, (3, 32, 32), "side must be a whole number from 32 up, but got 8"),
        ({"dropout": 1}, (3, 32, 32), "dropout must be a number from 0 up and below 1"),
        ({"dropout": None}, (3, 32, 32), "dropout must be a number from 0 up and below 1"),
        ({}, (3, 28, 28), "needs images of 32x32 or more, but got 28x28; give a side"),
        ({}, (4, 32, 32), "images of 1 or 3 channels, but got 4"),
    ],
)
def test_errors(config: dict[str, object], shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        build(from_dict({"family": "resnet18", **config}), shape, 10)  # type: ignore[dict-item]
