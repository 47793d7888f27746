"""ResNet-18 (He et al. 2015, arXiv 1512.03385, table 1), which has published ImageNet weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from models.checks import ArchitectureError
from models.family import Architecture, Family, ImageShape, check_fields, count
from models.mlp import PARAMETERS as LINEAR_PARAMETERS

if TYPE_CHECKING:
    from torch import nn

LEAST_SIDE = 32  # the last maps are 1/32 of the image


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig(Architecture):
    """ResNet-18, layer for layer as torchvision's, so that its weights fit; grey is made RGB."""

    # Images are scaled to side x side first, bilinearly; None: not scaled. ImageNet training used
    # 224; small images gain from 64 or more, at a cost that grows with the square.
    side: int | None = None
    dropout: float = 0.0  # rate before the output

    def __post_init__(self) -> None:
        values = asdict(self)
        if self.side is None:
            del values["side"]
        side = count(LEAST_SIDE, "side", least=LEAST_SIDE)
        check_fields(values, {**LINEAR_PARAMETERS, "side": side})


def build(config: ResNetConfig, image_shape: ImageShape, classes: int) -> nn.Module:
    """Raises ArchitectureError for images that are neither grey nor colour, or too small."""
    from torch import nn
    from torchvision.models import resnet18

    from models.blocks import GreyToColour, Residual, sequence

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
    theirs = resnet18(num_classes=classes)
    layers += [("conv1", theirs.conv1), ("norm1", theirs.bn1), ("relu1", nn.ReLU())]
    layers.append(("pool1", theirs.maxpool))
    for stage in range(1, 5):
        for number, block in enumerate(theirs.get_submodule(f"layer{stage}").children(), start=1):
            name = f"{stage}_{number}"
            conv_a, norm_a, _, conv_b, norm_b, *downsample = block.children()
            main = [(f"conv{name}a", conv_a), (f"norm{name}a", norm_a), (f"relu{name}a", nn.ReLU())]
            main += [(f"conv{name}b", conv_b), (f"norm{name}b", norm_b)]
            skips = (f"conv{name}_skip", f"norm{name}_skip")
            shortcut = [
                it for path in downsample for it in zip(skips, path.children(), strict=True)
            ]
            layers += [(f"residual{name}", Residual(main, shortcut)), (f"relu{name}b", nn.ReLU())]
    layers += [("global_pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    if config.dropout:
        layers.append(("dropout1", nn.Dropout(config.dropout)))
    return sequence([*layers, ("output", theirs.fc)])


def torchvision_names() -> list[str]:
    """What torchvision's resnet18 calls the entries of our `state_dict`, which has its order."""
    import torch
    from torchvision.models import resnet18

    with torch.device("meta"):
        return list(resnet18().state_dict())


FAMILY = Family(
    description="ResNet-18, which can start from ImageNet weights",
    config=ResNetConfig,
    build=build,
    parameters={
        "side": count(0, "side in pixels to scale images to; 0: unscaled", least=0),
        "dropout": LINEAR_PARAMETERS["dropout"],
    },
    adjust=lambda values: {"side": values["side"] or None},
    imagenet_names=torchvision_names,
)
