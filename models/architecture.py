"""Any network as one value: checked against the images, and to and from JSON."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from math import prod
from typing import Any

from models.checks import ArchitectureError, check_choice, is_count, shown
from models.convnet import ConvNetConfig
from models.layers import Layer, Shape, flat
from models.mlp import MLPConfig, mlp_layers
from models.resnet import ResNetConfig, resnet_layers
from models.stack import convnet_layers

Architecture = ConvNetConfig | MLPConfig | ResNetConfig
JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

FAMILIES: dict[str, type[ConvNetConfig] | type[MLPConfig] | type[ResNetConfig]] = {
    "cnn": ConvNetConfig,
    "mlp": MLPConfig,
    "resnet18": ResNetConfig,
}


MOST_PARAMETERS = 10**9  # 4 GB, and as much again for each of gradient and moments
MOST_VALUES = 10**8  # that one layer gives for one image: 400 MB, times the batch


def plan(architecture: Architecture, image_shape: Shape, classes: int) -> tuple[Layer, ...]:
    """The layers in running order, with every shape known; needs no torch and no memory.

    `image_shape` is (channels, height, width). Raises ArchitectureError, naming the layer and
    the size, where the network does not fit such images, or no memory.
    """
    if len(image_shape) != 3 or not all(map(is_count, image_shape)):
        raise ArchitectureError(
            "an image needs channels, height and width, each from 1 up, "
            f"but got {list(image_shape)}"
        )
    if not is_count(classes, least=2):
        raise ArchitectureError(f"there must be at least 2 classes, but got {classes!r}")
    if isinstance(architecture, ConvNetConfig):
        layers = convnet_layers(architecture, image_shape, classes)
    elif isinstance(architecture, ResNetConfig):
        layers = resnet_layers(architecture, image_shape, classes)
    else:
        layers = mlp_layers(architecture, image_shape, classes)
    _check_size(layers)
    return layers


def _check_size(layers: tuple[Layer, ...]) -> None:
    parameters = 0
    for layer in flat(layers):
        if max(prod(layer.input), prod(layer.output)) > MOST_VALUES:
            raise ArchitectureError(
                f"{layer.name} would give {_by(layer.output)} values for {_by(layer.input)}, and "
                f"{MOST_VALUES} are the most that make sense; use smaller images, fewer channels, "
                "less padding or more pooling"
            )
        parameters += layer.weights + layer.biases
        if parameters > MOST_PARAMETERS:
            raise ArchitectureError(
                f"the network would have more than {MOST_PARAMETERS} parameters, from {layer.name} "
                "on; use fewer channels or hidden units, smaller kernels, or more pooling"
            )


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))


def to_dict(architecture: Architecture) -> dict[str, JSON]:
    """Plain JSON values: "family" ("cnn", "mlp" or "resnet18") and every field, tuples as lists."""
    family = next(name for name, owner in FAMILIES.items() if isinstance(architecture, owner))
    values: dict[str, JSON] = {"family": family}
    for field in fields(architecture):
        value = getattr(architecture, field.name)
        values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


def from_dict(values: Mapping[str, JSON]) -> Architecture:
    """The architecture that `to_dict` wrote, or a person; fields with defaults may be left out.

    Raises ArchitectureError that names the key which is unknown, missing or holds a wrong value.
    """
    if not isinstance(values, Mapping):
        raise ArchitectureError(f"an architecture must be a table of keys, but got {shown(values)}")
    if "family" not in values:
        raise ArchitectureError(f"key 'family' is missing; give one of {', '.join(FAMILIES)}")
    family = values["family"]
    check_choice("family", family, tuple(FAMILIES))
    owner = FAMILIES[str(family)]
    known = {field.name: field for field in fields(owner)}
    given = {key: value for key, value in values.items() if key != "family"}
    for key in given:
        if key not in known:
            raise ArchitectureError(
                f"unknown key {key[:40]!r} for family {family!r}; known are {', '.join(known)}"
            )
    for key, field in known.items():
        if field.default is MISSING and key not in given:
            raise ArchitectureError(f"key {key!r} is missing for family {family!r}")
    # What each value may be is checked in one place, the dataclass itself.
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return owner(**arguments)
