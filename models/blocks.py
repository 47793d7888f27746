"""Modules that several families are made of. Images are float (N, C, H, W), in either format."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

from torch import Tensor, nn

Named = tuple[str, nn.Module]

# Not in place: that gained nothing measurable on CPU, and would overwrite the maps that a forward
# hook keeps.
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def sequence(layers: Iterable[Named]) -> nn.Sequential:
    """Modules one after another, under their names."""
    return nn.Sequential(OrderedDict(layers))


class Residual(nn.Module):
    """main(x) + shortcut(x); an empty shortcut is the identity."""

    def __init__(self, main: Iterable[Named], shortcut: Iterable[Named]) -> None:
        super().__init__()
        self.main = sequence(main)
        self.shortcut = sequence(shortcut)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        total: Tensor = self.main(x_NCHW) + self.shortcut(x_NCHW)
        return total


class GreyToColour(nn.Module):
    """(N, 1, H, W) to (N, 3, H, W)."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW.expand(-1, 3, -1, -1)
