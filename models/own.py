"""A family made of one function: `build(image_shape, classes, *, depth=3, width=16, ...)`.

Its keyword arguments become parameters. That is how a person's own file becomes a family.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.checks import ArchitectureError
from models.family import Architecture, Family, Parameter, Value

if TYPE_CHECKING:
    from torch import nn

KINDS: Mapping[str, type] = {
    **{kind.__name__: kind for kind in (int, float, bool, str)},
    **dict.fromkeys(("list[int]", "tuple[int, ...]"), tuple),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnConfig(Architecture):
    """The name of a family in `FAMILIES`, and what its function is called with."""

    family: str
    arguments: tuple[tuple[str, Value], ...]

    def values(self) -> dict[str, Value]:
        return dict(self.arguments)


def family_from_function(
    name: str, function: Callable[..., nn.Module], *, source: str | None = None
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

    return Family(
        description=(inspect.getdoc(function) or f"network of {name}").splitlines()[0],
        config=OwnConfig,
        build=lambda config, *images: function(*images, **config.values()),
        parameters=parameters,
        configure=configure,
        source=source,
    )


def _parameter(one: inspect.Parameter) -> Parameter:
    required = one.default is one.empty
    default = None if required else one.default
    if isinstance(default, list):
        default = tuple(default)
    kinds = tuple(dict.fromkeys(KINDS.values())) if default is None else (type(default),)
    if (annotation := inspect.formatannotation(one.annotation).strip("\"'")) in KINDS:
        kinds = (KINDS[annotation],)
    if not set(kinds) <= set(KINDS.values()):
        raise TypeError(f"its argument {one.name} = {default!r} is no number, text or list")
    return Parameter(
        kinds=kinds, default=default, description=f"argument {one.name}", required=required
    )
