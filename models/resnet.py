"""ResNet-18 (He et al. 2015, arXiv 1512.03385, table 1), which has published ImageNet weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.checks import ArchitectureError
from models.family import Architecture, Family, ImageShape, check_fields, count
from models.mlp import PARAMETERS as LINEAR_PARAMETERS

if TYPE_CHECKING:
    from torch import nn

LEAST_SIDE = 32  # the last maps are 1/32 of the image


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig(Architecture):
    """ResNet-18, layer for layer as torchvision's, so that its weights fit.

    Grey images are repeated in three channels.

    side: images are scaled to side x side first, bilinearly; None: not scaled. ImageNet training
        used 224; small images gain from 64 or more, at a cost that grows with the square.
    """

    side: int | None = None
    dropout: float = 0.0  # rate before the output

    def __post_init__(self) -> None:
        values = self.values()
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
            kinds = {"conv1": "conv{}a", "bn1": "norm{}a", "conv2": "conv{}b", "bn2": "norm{}b"}
            main = [(ours.format(name), block.get_submodule(it)) for it, ours in kinds.items()]
            main.insert(2, (f"relu{name}a", nn.ReLU()))
            downsample = dict(block.named_children()).get("downsample", nn.Identity())
            shortcut = [
                (f"{kind}{name}_skip", module)
                for kind, module in zip(("conv", "norm"), downsample.children(), strict=False)
            ]
            layers += [(f"residual{name}", Residual(main, shortcut)), (f"relu{name}b", nn.ReLU())]
    layers += [("global_pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    if config.dropout:
        layers.append(("dropout1", nn.Dropout(config.dropout)))
    return sequence([*layers, ("output", theirs.fc)])


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
        "side": count(0, "side in pixels to scale images to; 0: unscaled", least=0),
        "dropout": LINEAR_PARAMETERS["dropout"],
    },
    configure=lambda values: ResNetConfig(side=values["side"] or None, dropout=values["dropout"]),
    imagenet_name=torchvision_name,
)
