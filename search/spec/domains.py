"""What values a parameter may take: one, some, or a range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from models.checks import shown

ParameterValue = None | bool | int | float | str | tuple[int, ...]

MOST_CHOICES = 1000  # Optuna's samplers weigh each of them at each draw
LARGEST = 2**53  # of whole numbers: all up to it are floats, too
LONGEST_TEXT = 4000  # characters


class SpecError(ValueError):
    """A study's specification that cannot be followed. One line.

    Attributes:
        key: the offending key, so that whoever read it from a file can add the line.
        table: for a key of one of several tables that are called alike: their name, and the
            table's own name or its number from 0.
    """

    def __init__(
        self, key: str, message: str, *, table: tuple[str, str | int] | None = None
    ) -> None:
        super().__init__(message)
        self.key = key
        self.table = table


@dataclass(frozen=True, kw_only=True, slots=True)
class Fixed:
    value: ParameterValue


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    values: tuple[ParameterValue, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """low and high are both included. Integers if both are.

    Attributes:
        log: even in the logarithm.
        step: only low, low + step, ... of integers.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int = 1

    @property
    def integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Domain = Fixed | Choice | Range


def domain_from_json(written: Any, name: str = "space") -> Domain:
    """A domain as people write it (TOML) and as we store it (JSON).

    A table `{low, high, log, step}` is a range, a list a choice, anything else one fixed value. For
    parameters that are lists of numbers themselves (`hidden`), `[120, 84]` is one value and
    `[[128], [120, 84]]` a choice; `[[]]` is the choice of no layer, and `[]` that value fixed.

    Raises:
        SpecError: not of one of these forms.
    """
    if isinstance(written, dict):
        return _range(written, name)
    if isinstance(written, list):
        if name in LIST_PARAMETERS and all(map(_is_count, written)):
            return Fixed(value=tuple(written))
        if not written:
            raise SpecError(name, f"{name}: an empty list leaves no choice")
        if len(written) > MOST_CHOICES:
            raise SpecError(
                name,
                f"{name}: a list has at most {MOST_CHOICES} choices, but got {len(written)}; give "
                "a range {low = ..., high = ...}",
            )
        values = tuple(_value(value, name) for value in written)
        if len(set(map(repr, values))) < len(values):
            raise SpecError(name, f"{name}: a value stands twice in {shown(written)}")
        return Choice(values=values)
    return Fixed(value=_value(written, name))


LIST_PARAMETERS = ("channels", "kernel_sizes", "hidden", "pool_after", "batch_norm")


def domain_to_json(domain: Domain) -> Any:
    """The written form: `domain_from_json` gives the domain back."""
    match domain:
        case Fixed(value=value):
            return _plain(value)
        case Choice(values=values):
            return [_plain(value) for value in values]
        case Range(low=low, high=high, log=log, step=step):
            written = {"low": low, "high": high, "log": log}
            return {**written, "step": step} if step != 1 else written


def _range(written: dict[str, Any], name: str) -> Range:
    unknown = set(written) - {"low", "high", "log", "step"}
    if unknown or "low" not in written or "high" not in written:
        raise SpecError(
            name, f"{name}: a range is {{low = ..., high = ...}} with log = true or step = ..."
        )
    low, high, log = written["low"], written["high"], written.get("log", False)
    for bound in (low, high):
        if isinstance(bound, int) and abs(bound) > LARGEST:
            raise SpecError(
                name, f"{name}: a range's ends are at most {LARGEST}, but got {shown(bound)}"
            )
        if not _is_number(bound):
            raise SpecError(name, f"{name}: a range's ends are numbers, but got {shown(bound)}")
    if not isinstance(log, bool):
        raise SpecError(name, f"{name}: log is true or false, but got {shown(log)}")
    if low > high:
        raise SpecError(name, f"{name}: low = {low} is above high = {high}")
    if log and low <= 0:
        raise SpecError(name, f"{name}: a logarithmic range starts above 0, but low = {low}")
    return Range(low=low, high=high, log=log, step=_step(written, name))


def _step(written: dict[str, Any], name: str) -> int:
    if "step" not in written:
        return 1
    step, low, high = written["step"], written["low"], written["high"]
    if written.get("log") or not all(map(_is_count, (step, low, high))) or step < 1:
        raise SpecError(
            name, f"{name}: step is a whole number from 1 up, of whole numbers without log"
        )
    if (high - low) % step:
        raise SpecError(name, f"{name}: steps of {step} from {low} do not meet high = {high}")
    return int(step)


def _value(written: Any, name: str) -> ParameterValue:
    if isinstance(written, list):
        if all(map(_is_count, written)):
            return tuple(written)
    elif isinstance(written, str) and len(written) > LONGEST_TEXT:
        raise SpecError(
            name, f"{name}: a text has at most {LONGEST_TEXT} characters, but got {len(written)}"
        )
    elif isinstance(written, bool | str) or _is_number(written):
        value: ParameterValue = written
        return value
    elif isinstance(written, int):
        raise SpecError(name, f"{name} must be at most {LARGEST} in size, but got {shown(written)}")
    raise SpecError(
        name, f"{name}: {shown(written)} is neither a number, a text, a truth nor a list"
    )


def _is_count(written: Any) -> bool:
    whole = isinstance(written, int) and not isinstance(written, bool)
    return whole and abs(written) <= LARGEST


def _is_number(written: Any) -> bool:
    return _is_count(written) or (isinstance(written, float) and math.isfinite(written))


def _plain(value: ParameterValue) -> Any:
    return list(value) if isinstance(value, tuple) else value
