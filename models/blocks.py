"""Modules that several families use. Images are float (N, C, H, W), in either memory format."""

from collections import OrderedDict
from collections.abc import Iterable

from torch import Tensor, nn

Named = tuple[str, nn.Module]


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
