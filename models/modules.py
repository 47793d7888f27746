"""From a plan to torch modules. Images are float (N, C, H, W), in either memory format."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from models.layers import (
    Activation,
    ActivationName,
    BatchNorm,
    Colour,
    Convolution,
    Dropout,
    Flatten,
    GlobalPool,
    Layer,
    Linear,
    OverlappingPool,
    Pool,
    Residual,
    Resize,
)
from models.stem import Network, stem_length

# Not in place: after the reordering in `models.stack` that gained nothing measurable on CPU (-1 to
# 3 %, within the spread), and it would overwrite the maps that a forward hook keeps.
_ACTIVATIONS: dict[ActivationName, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def network(layers: Sequence[Layer]) -> Network:
    """Modules under their layers' names, with PyTorch's default initialisation.

    That is the one the reports used, so their figures can be met; it draws from torch's global
    generator. The forward pass never looks at a value, so CUDA graphs can capture it.
    """
    return Network(_modules(layers), stem_length(layers))


def _modules(layers: Iterable[Layer]) -> OrderedDict[str, nn.Module]:
    return OrderedDict((layer.name, _module(layer)) for layer in layers)


class ResidualSum(nn.Module):
    """main(x) + shortcut(x); an empty shortcut is the identity."""

    def __init__(self, main: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut

    def forward(self, x_NCHW: Tensor) -> Tensor:
        total: Tensor = self.main(x_NCHW) + self.shortcut(x_NCHW)
        return total


class GreyToColour(nn.Module):
    """(N, 1, H, W) to (N, 3, H, W)."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW.expand(-1, 3, -1, -1)


def _module(layer: Layer) -> nn.Module:
    match layer:
        case Convolution():
            return nn.Conv2d(
                layer.input[0],
                layer.channels,
                layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
                bias=layer.bias,
            )
        case BatchNorm():
            return (nn.BatchNorm2d if len(layer.input) == 3 else nn.BatchNorm1d)(layer.input[0])
        case Activation():
            return _ACTIVATIONS[layer.function]()
        case Pool():
            return nn.MaxPool2d(2) if layer.kind == "max" else nn.AvgPool2d(2)
        case OverlappingPool():
            return nn.MaxPool2d(3, stride=2, padding=1)
        case Resize():
            return nn.Upsample(size=(layer.side, layer.side), mode="bilinear")
        case Colour():
            return GreyToColour()
        case GlobalPool():
            return nn.AdaptiveAvgPool2d(1)
        case Flatten():
            return nn.Flatten()
        case Dropout():
            return nn.Dropout(layer.rate)
        case Linear():
            return nn.Linear(layer.input[0], layer.features)
        case Residual():
            return ResidualSum(
                nn.Sequential(_modules(layer.main)), nn.Sequential(_modules(layer.shortcut))
            )
        case _:
            raise AssertionError(f"no module for {layer}")
