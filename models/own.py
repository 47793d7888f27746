"""A family made of one function: `build(image_shape, classes, *, depth=3, width=16, ...)`.

Its keyword arguments become parameters. That is how a person's own file becomes a family.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models.checks import ArchitectureError
from models.family import Architecture, Family, ImageShape, Parameter, Value, plain_words

if TYPE_CHECKING:
    from torch import nn

ANNOTATED: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float,),
    "bool": (bool,),
    "str": (str,),
    "list[int]": (tuple,),
    "tuple[int, ...]": (tuple,),
}
ANY_KIND = (int, float, bool, str, tuple)


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnConfig(Architecture):
    """The name of a family in `FAMILIES`, and what its function is called with."""

    family: str
    arguments: tuple[tuple[str, Value], ...]

    def values(self) -> dict[str, Value]:
        return dict(self.arguments)


def family_from_function(
    name: str,
    function: Callable[..., nn.Module],
    *,
    description: str | None = None,
    source: str | None = None,
) -> Family:
    """The family that `FAMILIES[name]` is to hold.

    The function gets (channels, height, width), the number of classes, and its keyword arguments by
    name. A default or an annotation (int, float, bool, str, tuple[int, ...]) says what kind of
    value an argument takes; lists arrive as tuples.

    Args:
        source: the code it came from, to be kept with trained networks.

    Raises:
        ArchitectureError: it cannot be called so.
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

    def configure(values: Mapping[str, Any]) -> OwnConfig:
        missing = [key for key, one in parameters.items() if one.required and values[key] is None]
        if missing:
            raise ArchitectureError(f"{name} needs {', '.join(missing)}; give it in [space]")
        return OwnConfig(family=name, arguments=tuple((key, values[key]) for key in parameters))

    def words(config: OwnConfig) -> list[str]:
        return [name, *plain_words(config)[1:]]

    first_line = (inspect.getdoc(function) or f"network of {name}").splitlines()[0]
    return Family(
        description=description or first_line,
        config=OwnConfig,
        build=partial(_build, function),
        parameters=parameters,
        configure=configure,
        words=words,
        short=lambda config: " ".join(words(config)),
        source=source,
    )


def _build(
    function: Callable[..., nn.Module], config: OwnConfig, image_shape: ImageShape, classes: int
) -> nn.Module:
    return function(image_shape, classes, **dict(config.arguments))


def _parameter(one: inspect.Parameter) -> Parameter:
    required = one.default is one.empty
    default = None if required else one.default
    if isinstance(default, list):
        default = tuple(default)
    kinds: tuple[type, ...] = ANY_KIND if default is None else (type(default),)
    if one.annotation is not one.empty:
        annotation = one.annotation
        named = annotation.__name__ if isinstance(annotation, type) else str(annotation)
        kinds = ANNOTATED.get(named if named in ANNOTATED else str(annotation), kinds)
    if not set(kinds) <= set(ANY_KIND):
        raise TypeError(f"its argument {one.name} = {default!r} is no number, text or list")
    return Parameter(
        kinds=kinds, default=default, description=f"argument {one.name}", required=required
    )
