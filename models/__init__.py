"""Networks: pure functions from an architecture to a module. Knows no data and no search."""

from typing import TYPE_CHECKING

from models.architecture import JSON, Architecture, from_dict, plan, to_dict
from models.checks import ArchitectureError
from models.convnet import ConvNetConfig
from models.mlp import MLPConfig
from models.resnet import ResNetConfig

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "JSON",
    "Architecture",
    "ArchitectureError",
    "ConvNetConfig",
    "MLPConfig",
    "ResNetConfig",
    "build",
    "from_dict",
    "plan",
    "to_dict",
]


def build(
    architecture: Architecture, image_shape: tuple[int, int, int], classes: int
) -> "nn.Module":
    """A fresh module from images (N, *image_shape) to logits (N, classes).

    `image_shape` is (channels, height, width). The whole architecture is checked before anything
    is allocated; ArchitectureError names the layer and the size that do not fit. The weights are
    drawn from torch's global generator, which the caller seeds. Modules are named as in
    `models.anatomy`: `conv1` is the first convolution. Where max pooling runs before the
    activation, the finished feature map is what the activation gives, not the pooling.
    """
    layers = plan(architecture, image_shape, classes)
    # Imported only here: torch takes over a second to load, and to check or count needs none of it.
    from models.modules import network

    return network(layers)
