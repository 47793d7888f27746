"""ResNet-18 (He et al. 2015, arXiv 1512.03385, table 1), whose ImageNet weights are to be had."""

from dataclasses import dataclass

from models.checks import ArchitectureError, check_rate, is_count, shown
from models.layers import (
    Activation,
    BatchNorm,
    Chain,
    Colour,
    Convolution,
    Dropout,
    Flatten,
    GlobalPool,
    Layer,
    Linear,
    OverlappingPool,
    Residual,
    Resize,
    Shape,
)

STEM_CHANNELS = 64
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # channels, and stride of the first convolution
BLOCKS_A_STAGE = 2
LEAST_SIDE = 32  # the last maps are 1/32 of the image


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig:
    """ResNet-18, layer for layer as torchvision's, so that its weights fit.

    Grey images are shown to it as colour.

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
        check_rate("dropout", self.dropout)


def resnet_layers(config: ResNetConfig, image_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """The plan of `config` for images of shape (channels, height, width).

    Raises ArchitectureError for images that are neither grey nor colour, or too small.
    """
    chain = Chain(image_shape)
    if image_shape[0] not in (1, 3):
        raise ArchitectureError(
            f"a ResNet takes images of 1 or 3 channels, but got {image_shape[0]}"
        )
    if config.side is not None:
        chain.add(Resize(name="resize", input=chain.shape, side=config.side))
    if min(chain.shape[1:]) < LEAST_SIDE:
        height, width = chain.shape[1:]
        raise ArchitectureError(
            f"a ResNet needs images of {LEAST_SIDE}x{LEAST_SIDE} or more, but got "
            f"{height}x{width}; give a side, such as 64, to which they are scaled"
        )
    if image_shape[0] == 1:
        chain.add(Colour(name="colour", input=chain.shape))
    _add_convolution(chain, "1", STEM_CHANNELS, kernel=7, stride=2)
    chain.add(Activation(name="relu1", input=chain.shape, function="relu"))
    chain.add(OverlappingPool(name="pool1", input=chain.shape))
    for stage, (channels, stride) in enumerate(STAGES, start=1):
        for block in range(1, BLOCKS_A_STAGE + 1):
            _add_block(chain, f"{stage}_{block}", channels, stride if block == 1 else 1)
    chain.add(GlobalPool(name="global_pool", input=chain.shape))
    chain.add(Flatten(name="flatten", input=chain.shape))
    if config.dropout:
        chain.add(Dropout(name="dropout1", input=chain.shape, rate=config.dropout))
    chain.add(Linear(name="output", input=chain.shape, features=classes))
    return tuple(chain.layers)


def _add_block(chain: Chain, name: str, channels: int, stride: int) -> None:
    main, shortcut = Chain(chain.shape), Chain(chain.shape)
    _add_convolution(main, f"{name}a", channels, kernel=3, stride=stride)
    main.add(Activation(name=f"relu{name}a", input=main.shape, function="relu"))
    _add_convolution(main, f"{name}b", channels, kernel=3, stride=1)
    if shortcut.shape != main.shape:
        _add_convolution(shortcut, f"{name}_skip", channels, kernel=1, stride=stride)
    chain.add(
        Residual(
            name=f"residual{name}",
            input=chain.shape,
            main=tuple(main.layers),
            shortcut=tuple(shortcut.layers),
        )
    )
    chain.add(Activation(name=f"relu{name}b", input=chain.shape, function="relu"))


def _add_convolution(chain: Chain, name: str, channels: int, *, kernel: int, stride: int) -> None:
    convolution = Convolution(
        name=f"conv{name}",
        input=chain.shape,
        channels=channels,
        kernel=kernel,
        padding=kernel // 2,
        stride=stride,
        bias=False,
    )
    chain.add(convolution)
    chain.add(BatchNorm(name=f"norm{name}", input=chain.shape))


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
