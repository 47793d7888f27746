"""The registry of network families, and what goes for a configuration of any of them.

To add a family, write a file like `models.mlp` and enter it here; or, without touching this
project, enter one from a file that a study names, see `search.spec.extensions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from models import convnet, mlp, resnet
from models.checks import ArchitectureError, shown
from models.family import Architecture, Family, ImageShape
from models.own import OwnConfig

if TYPE_CHECKING:
    from torch import nn

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

FAMILIES: dict[str, Family] = {"cnn": convnet.FAMILY, "mlp": mlp.FAMILY, "resnet18": resnet.FAMILY}


def family_name(architecture: Architecture) -> str:
    """The name under which `FAMILIES` has the configuration's family. Raises ArchitectureError."""
    for name, one in FAMILIES.items():
        if one.config is type(architecture) and getattr(architecture, "family", name) == name:
            return name
    raise ArchitectureError(f"no family of {architecture} is known; load the file that has it")


def family_of(architecture: Architecture) -> Family:
    """Raises ArchitectureError where it is not registered."""
    return FAMILIES[family_name(architecture)]


def build(architecture: Architecture, image_shape: ImageShape, classes: int) -> nn.Module:
    """A fresh module from images (N, *image_shape) to logits (N, classes).

    `image_shape` is (channels, height, width). The whole architecture is checked before anything
    is allocated; ArchitectureError names the layer and the size that do not fit. The weights are
    drawn from torch's global generator, which the caller seeds. Modules are named as in
    `models.anatomy`: `conv1` is the first convolution. Where max pooling runs before the
    activation, the finished feature map is what the activation gives, not the pooling.
    """
    import torch
    from torch.nn.parameter import is_lazy

    from models.summary import anatomy

    anatomy(architecture, image_shape, classes)
    network = family_of(architecture).build(architecture, image_shape, classes)
    if any(map(is_lazy, network.parameters())):
        network.eval()(torch.zeros(1, *image_shape))
    return network.train()


def to_dict(architecture: Architecture) -> dict[str, JSON]:
    """Plain JSON values: "family" (a name in `FAMILIES`) and every field, tuples as lists."""
    plain: dict[str, JSON] = {"family": family_name(architecture)}
    for name, value in architecture.values().items():
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain


def from_dict(values: Mapping[str, JSON]) -> Architecture:
    """The configuration that `to_dict` wrote, or a person; fields with defaults may be left out.

    Raises ArchitectureError that names the key which is unknown, missing or holds a wrong value.
    """
    if not isinstance(values, Mapping):
        raise ArchitectureError(f"an architecture must be a table of keys, but got {shown(values)}")
    name = values.get("family")
    if name not in tuple(FAMILIES):
        names = ", ".join(FAMILIES)
        raise ArchitectureError(f"family must be one of {names}, but got {shown(name)}")
    family = FAMILIES[str(name)]
    own = family.config is OwnConfig
    required = {key: one.required for key, one in family.parameters.items()}
    if not own:
        known: Any = fields(family.config)  # type: ignore[arg-type]
        required = {one.name: MISSING is one.default is one.default_factory for one in known}
    given = {key: tuple(it) if isinstance(it, list) else it for key, it in values.items()}
    del given["family"]
    if unknown := given.keys() - required:
        told = f"unknown key {shown(min(unknown))} for family {name!r}"
        raise ArchitectureError(f"{told}; known: {', '.join(required)}")
    for key in required:
        if required[key] and key not in given:
            raise ArchitectureError(f"key {key!r} is missing for family {name!r}")
    # What each value may be is checked in one place, the configuration itself.
    return family.configured(given) if own else family.config(**given)
