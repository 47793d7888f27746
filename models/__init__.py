"""Networks: pure functions from a configuration to a module. Knows no data and no search.

The registry of families, and functions for a configuration of any of them. To add a family, write a
file like `models.mlp` and register it here; or, without changing this project, register one from
a file that a study names, see `search.spec.extensions`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, fields, make_dataclass
from typing import TYPE_CHECKING, Any

from models import convnet, mlp, resnet
from models.checks import ArchitectureError as ArchitectureError
from models.checks import shown
from models.convnet import ConvNetConfig as ConvNetConfig
from models.family import Architecture as Architecture
from models.family import Family as Family
from models.family import ImageShape
from models.family import Parameter as Parameter
from models.mlp import MLPConfig as MLPConfig
from models.resnet import ResNetConfig as ResNetConfig

if TYPE_CHECKING:
    from torch import nn

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

FAMILIES: dict[str, Family] = {"cnn": convnet.FAMILY, "mlp": mlp.FAMILY, "resnet18": resnet.FAMILY}
BUILT_IN = frozenset(FAMILIES)
# Annotations in a user's function, and the kind of value that each requires.
_KINDS: Mapping[str, type] = {
    **{kind.__name__: kind for kind in (int, float, bool, str)},
    **dict.fromkeys(("list[int]", "tuple[int, ...]"), tuple),
}


def family_name(architecture: Architecture) -> str:
    """The name of the configuration's family in `FAMILIES`. Raises ArchitectureError."""
    for name, one in FAMILIES.items():
        if one.config is type(architecture):
            return name
    if (name := type(architecture).__name__) in FAMILIES:  # registered again since
        return name
    raise ArchitectureError(f"the family of {architecture} is unknown; load the file that has it")


def family_of(architecture: Architecture) -> Family:
    """Raises ArchitectureError if it is not registered."""
    return FAMILIES[family_name(architecture)]


def build(architecture: Architecture, image_shape: ImageShape, classes: int) -> nn.Module:
    """A fresh module from images (N, *image_shape) to logits (N, classes).

    The whole architecture is checked before anything is allocated, unless a user's code needs
    values for that; ArchitectureError names the layer and the size that do not fit. The weights
    are drawn from torch's global generator, which the caller seeds. Modules are named as in
    `models.anatomy`: `conv1` is the first convolution. If max pooling runs before the activation,
    the final feature map is the output of the activation, not of the pooling.
    """
    import torch
    from torch.nn.parameter import is_lazy

    from models.summary import anatomy

    anatomy(architecture, image_shape, classes)
    network = family_of(architecture).build(architecture, image_shape, classes)
    if any(map(is_lazy, network.parameters())):
        network.eval()(torch.zeros(1, *image_shape).to(memory_format=torch.channels_last))
    return network.train()


def to_dict(architecture: Architecture) -> dict[str, JSON]:
    """Plain JSON values: "family" (a name in `FAMILIES`) and every field, tuples as lists."""
    plain: dict[str, JSON] = {"family": family_name(architecture)}
    for name, value in asdict(architecture).items():
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain


def from_dict(values: Mapping[str, JSON]) -> Architecture:
    """From `to_dict`, or the user, who may leave out defaults. ArchitectureError names the key."""
    if not isinstance(values, Mapping):
        raise ArchitectureError(f"an architecture must be a table of keys, but got {shown(values)}")
    given = {key: _as_tuples(it) for key, it in values.items()}
    name: Any = values.get("family")
    if name not in tuple(FAMILIES):
        names = ", ".join(FAMILIES)
        raise ArchitectureError(f"family must be one of {names}, but got {shown(name)}")
    del given["family"]
    family = FAMILIES[name]
    known = fields(family.config)
    required = {one.name: MISSING is one.default is one.default_factory for one in known}
    is_function = all(required.values()) and required.keys() == family.parameters.keys()
    if is_function:  # its fields have no defaults, its parameters do
        required = {key: one.required for key, one in family.parameters.items()}
    if unknown := given.keys() - required:
        told = f"unknown key {shown(min(unknown))} for family {name!r}"
        raise ArchitectureError(f"{told}; known: {', '.join(required)}")
    for key in required:
        if required[key] and key not in given:
            raise ArchitectureError(f"key {key!r} is missing for family {name!r}")
    # What each value may be is checked in one place, the configuration itself.
    return family.configured(given) if is_function else family.config(**given)


def family_from_function(
    name: str, function: Callable[..., nn.Module], *, source: str | None = None
) -> Family:
    """The family for `FAMILIES[name]`, from `build(image_shape, classes, *, depth=3, ...)`.

    The function gets (channels, height, width), the number of classes, and its keyword arguments,
    which become parameters, by name. A default or an annotation (int, float, bool, str,
    tuple[int, ...]) says what kind of value an argument takes; lists arrive as tuples. `source` is
    the function's code, to be stored with trained networks. Raises ArchitectureError if it
    cannot be called like this.
    """
    try:
        signature = inspect.signature(function)
        parameters = {
            one.name: _parameter(one)
            for one in list(signature.parameters.values())[2:]
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        }
        signature.bind((1, 1, 1), 2, **dict.fromkeys(parameters))
    except (TypeError, ValueError) as error:
        raise ArchitectureError(
            f"{name} must be a function build(image_shape, classes, *, ...), but {error}"
        ) from error

    # Fields without defaults: all arguments are part of its description in words.
    config = make_dataclass(
        name,
        [(key, Any) for key in parameters],
        bases=(Architecture,),
        namespace={"__reduce__": lambda self: (from_dict, (to_dict(self),))},  # for pickle
        frozen=True,
        kw_only=True,
        slots=True,
    )
    return Family(
        description=(inspect.getdoc(function) or f"network of {name}").splitlines()[0],
        config=config,
        build=lambda config, *images: function(*images, **asdict(config)),
        parameters=parameters,
        source=source,
    )


def _parameter(one: inspect.Parameter) -> Parameter:
    required = one.default is one.empty
    default = None if required else _as_tuples(one.default)
    kinds = tuple(dict.fromkeys(_KINDS.values())) if default is None else (type(default),)
    if (annotation := inspect.formatannotation(one.annotation).strip("\"'")) in _KINDS:
        kinds = (_KINDS[annotation],)
    if not (set(kinds) <= set(_KINDS.values()) and _is_plain(default)):
        raise TypeError(f"its argument {one.name} = {shown(default)} is not a number, text or list")
    return Parameter(
        kinds=kinds, default=default, description=f"argument {one.name}", required=required
    )


def _as_tuples(value: Any) -> Any:
    """Tuples for lists, also inside them: a configuration is hashable."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def _is_plain(value: object) -> bool:
    """Whether JSON can hold it, with lists for tuples."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
