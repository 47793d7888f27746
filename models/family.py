"""What a network family is: all that the rest of the code needs to know about one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from models.checks import MOST_COUNT, MOST_LAYERS, ArchitectureError, shown

if TYPE_CHECKING:
    from torch import nn

Value = None | bool | int | float | str | tuple[int, ...]
ImageShape = tuple[int, int, int]  # channels, height, width

KIND_WORDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    tuple: "a list of whole numbers",
    bool: "true or false",
    str: "one line of text",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A network's configuration: its family's frozen dataclass of plain values, hashable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One thing that a study can fix, choose or search."""

    kinds: tuple[type, ...]  # the types that its values may have; `float` admits whole numbers
    default: Value  # its value if a study does not name it
    description: str  # one line
    options: Collection[str] = ()  # the only texts allowed, such as a registry's names; empty: any
    # Of a number, or of each in a list; None: no bound, except MOST_COUNT for whole numbers.
    least: float | None = None
    most: float | None = None
    below: float | None = None
    required: bool = False  # has no default; a study must name it

    @property
    def is_list(self) -> bool:
        """Whether a list of numbers is one value, not a choice among values."""
        return tuple in self.kinds and int not in self.kinds

    def fault(self, value: object) -> str | None:
        """What the value should have been, such as "a number from 0 up"; None if it fits."""
        if isinstance(value, tuple) and len(value) > MOST_LAYERS:
            return f"a list of at most {MOST_LAYERS} numbers"
        fits = isinstance(value, self.kinds) and (bool in self.kinds or not isinstance(value, bool))
        if isinstance(value, int | float) and not isinstance(value, bool):
            fits = (fits or float in self.kinds) and self._within(value)
        elif isinstance(value, tuple):
            fits = fits and all(type(one) is int and self._within(one) for one in value)
        elif isinstance(value, str):
            fits = value in self.options if self.options else fits and value.isprintable()
        if fits:
            return None
        if self.options and self.kinds == (str,):
            return f"one of {', '.join(self.options)}"
        words = [KIND_WORDS[kind] for kind in self.kinds if kind is not str or not self.options]
        least = "" if self.least is None else f" from {self.least}"
        up = f" to {self.most}" if self.most is not None else least and " up"
        below = "" if self.below is None else f" and below {self.below}"
        return " or ".join([*map(repr, self.options), *words]) + least + up + below

    def _within(self, number: float) -> bool:
        most = MOST_COUNT if isinstance(number, int) else sys.float_info.max
        low = -most if self.least is None else self.least
        high = most if self.most is None else self.most
        return low <= number <= high and (self.below is None or number < self.below)


def choice(options: Collection[str], default: str, description: str) -> Parameter:
    return Parameter(kinds=(str,), default=default, options=options, description=description)


def number(
    default: float, description: str, most: float | None = None, below: float | None = None
) -> Parameter:
    """From 0 up."""
    return Parameter(
        kinds=(float,), default=default, description=description, least=0, most=most, below=below
    )


def count(default: int, description: str, least: int = 1, most: int | None = None) -> Parameter:
    return Parameter(kinds=(int,), default=default, description=description, least=least, most=most)


def counts(default: tuple[int, ...], description: str) -> Parameter:
    return Parameter(kinds=(tuple,), default=default, description=description, least=1)


def check_fields(values: Mapping[str, object], parameters: Mapping[str, Parameter]) -> None:
    """Raises ArchitectureError, naming the first value that its parameter does not allow."""
    for name, value in values.items():
        if expected := parameters[name].fault(value):
            raise ArchitectureError(f"{name} must be {expected}, but got {shown(value)}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Family:
    """A kind of network.

    build: (config, image shape, classes) -> module from images (N, C, H, W) to logits (N, K). Its
        last layer is called `output` if it is to be trained from scratch when training starts from
        trained weights. Imports torch inside.
    adjust: a value for each parameter -> what replaces some, before the config's fields take them.
    """

    description: str  # one line
    config: type[Architecture]  # a frozen dataclass of plain values that checks them
    build: Callable[[Any, ImageShape, int], nn.Module]
    parameters: Mapping[str, Parameter]  # what a study can set in [space]
    renamed: Mapping[str, str] = field(default_factory=dict)  # field -> its parameter's other name
    adjust: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {}
    # What torchvision's ImageNet weights call the entries of our `state_dict`, in its order.
    imagenet_names: Callable[[], list[str]] | None = None
    source: str | None = None  # Python code, for a family from a user's own file

    def configured(self, values: Mapping[str, Any]) -> Architecture:
        """Configuration from parameter values, others default. Raises ArchitectureError."""
        complete = {name: one.default for name, one in self.parameters.items()} | dict(values)
        needed = [name for name, one in self.parameters.items() if one.required]
        if missing := ", ".join(name for name in needed if complete[name] is None):
            raise ArchitectureError(f"{self.config.__name__} needs {missing}; give it in [space]")
        complete |= self.adjust(complete)
        names = [one.name for one in fields(self.config)]
        return self.config(**{name: complete[self.renamed.get(name, name)] for name in names})


def compact(number: float) -> str:
    """Two significant digits: `0.0021`, `3.1e-4`, `0.3`."""
    if not 0 < abs(number) < 1e-3:
        return f"{number:.2g}"
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
