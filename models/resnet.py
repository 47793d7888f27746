"""ResNet-18 (He et al. 2015, arXiv 1512.03385, table 1), which has published ImageNet weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.checks import ArchitectureError, is_count, shown
from models.family import Architecture, Family, ImageShape, check_fields, count
from models.mlp import PARAMETERS as LINEAR_PARAMETERS

if TYPE_CHECKING:
    from torch import nn

STEM_CHANNELS = 64
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # channels, and stride of the first convolution
BLOCKS_A_STAGE = 2
LEAST_SIDE = 32  # the last maps are 1/32 of the image


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig(Architecture):
    """ResNet-18, layer for layer as torchvision's, so that its weights fit.

    Grey images are repeated in three channels.

    side: images are scaled to side x side first, bilinearly; None: taken as they are. It was
        trained on 224; small images gain from 64 or more, at a cost that grows with the square.
    dropout: rate before the output.
    """

    side: int | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.side is not None and not is_count(self.side, least=LEAST_SIDE):
            raise ArchitectureError(
                f"side must be a whole number from {LEAST_SIDE} up, but got {shown(self.side)}"
            )
        check_fields({"dropout": self.dropout}, LINEAR_PARAMETERS)


def build(config: ResNetConfig, image_shape: ImageShape, classes: int) -> nn.Module:
    """Raises ArchitectureError for images that are neither grey nor colour, or too small."""
    from torch import nn

    from models.blocks import GreyToColour, sequence

    channels, height, width = image_shape
    if channels not in (1, 3):
        raise ArchitectureError(f"a ResNet takes images of 1 or 3 channels, but got {channels}")
    if config.side is None and min(height, width) < LEAST_SIDE:
        raise ArchitectureError(
            f"a ResNet needs images of {LEAST_SIDE}x{LEAST_SIDE} or more, but got "
            f"{height}x{width}; give a side, such as 64, to which they are scaled"
        )
    layers: list[tuple[str, nn.Module]] = []
    if config.side is not None:
        size = (config.side, config.side)
        layers.append(("resize", nn.Upsample(size=size, mode="bilinear")))
    if channels == 1:
        layers.append(("colour", GreyToColour()))
    layers += _convolution("1", 3, STEM_CHANNELS, kernel=7, stride=2)
    layers += [("relu1", nn.ReLU()), ("pool1", nn.MaxPool2d(3, stride=2, padding=1))]
    channels = STEM_CHANNELS
    for stage, (width, stride) in enumerate(STAGES, start=1):
        for block in range(1, BLOCKS_A_STAGE + 1):
            layers += _block(f"{stage}_{block}", channels, width, stride if block == 1 else 1)
            channels = width
    layers += [("global_pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    if config.dropout:
        layers.append(("dropout1", nn.Dropout(config.dropout)))
    return sequence([*layers, ("output", nn.Linear(channels, classes))])


def _block(name: str, before: int, channels: int, stride: int) -> list[tuple[str, nn.Module]]:
    from torch import nn

    from models.blocks import Residual

    main = [
        *_convolution(f"{name}a", before, channels, kernel=3, stride=stride),
        (f"relu{name}a", nn.ReLU()),
        *_convolution(f"{name}b", channels, channels, kernel=3),
    ]
    shortcut = []
    if before != channels:
        shortcut = _convolution(f"{name}_skip", before, channels, kernel=1, stride=stride)
    return [(f"residual{name}", Residual(main, shortcut)), (f"relu{name}b", nn.ReLU())]


def _convolution(
    name: str, before: int, channels: int, *, kernel: int, stride: int = 1
) -> list[tuple[str, nn.Module]]:
    from torch import nn

    convolution = nn.Conv2d(
        before, channels, kernel, stride=stride, padding=kernel // 2, bias=False
    )
    return [(f"conv{name}", convolution), (f"norm{name}", nn.BatchNorm2d(channels))]


def torchvision_name(name: str) -> str:
    """What torchvision's resnet18 calls an entry of our `state_dict`.

    `residual2_1.main.norm2_1b.weight` is `layer2.0.bn2.weight` there.
    """
    *path, module, entry = name.split(".")
    if module == "output":
        return f"fc.{entry}"
    if not path:
        return f"{module.replace('norm', 'bn')}.{entry}"
    stage, block = path[0].removeprefix("residual").split("_")
    layer = f"layer{stage}.{int(block) - 1}"
    kind = "bn" if module.startswith("norm") else "conv"
    if path[1] == "shortcut":
        return f"{layer}.downsample.{int(kind == 'bn')}.{entry}"
    return f"{layer}.{kind}{1 if module.endswith('a') else 2}.{entry}"


FAMILY = Family(
    description="ResNet-18, which can start from ImageNet weights",
    config=ResNetConfig,
    build=build,
    parameters={
        "side": count(0, "pixels to scale images to first; 0: as they are", least=0),
        "dropout": LINEAR_PARAMETERS["dropout"],
    },
    configure=lambda values: ResNetConfig(side=values["side"] or None, dropout=values["dropout"]),
    imagenet_name=torchvision_name,
)
