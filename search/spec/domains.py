"""What values a parameter may take: one, some, or a range. Loads Optuna where it draws."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.checks import shown
from models.family import Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

ParameterValue = Value
MOST_CHOICES = 1000  # Optuna's samplers weigh each of them at each draw
LARGEST = 2**53  # of whole numbers: all up to it are floats, too
LONGEST_TEXT = 4000  # characters


class SpecError(ValueError):
    """A study's specification that cannot be followed. One line.

    Attributes:
        key: the offending field of `StudySpec`, parameter, or key of a study file.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def check_keys(written: Iterable[str], known: Collection[str], table: str) -> None:
    """Raises SpecError for the first key of the table that is not known."""
    for key in written:
        if key not in known:
            message = f"unknown key {shown(key)} in {table}; known: {', '.join(known)}"
            raise SpecError(key, message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fixed:
    value: ParameterValue

    @property
    def corners(self) -> tuple[ParameterValue, ...]:
        """Each value, or of a range its ends."""
        return (self.value,)

    @property
    def written(self) -> Any:
        """As in JSON: `domain_from_json` gives the domain back."""
        return plain(self.value)

    @property
    def distribution(self) -> BaseDistribution | None:
        """What Optuna draws from; None where it is not asked."""
        return None

    def suggest(self, trial: BaseTrial, name: str) -> ParameterValue:
        return self.value

    def contains(self, value: ParameterValue) -> bool:
        return value == self.value

    def can_store(self, value: ParameterValue) -> bool:
        """Whether Optuna can keep the value under this domain's distribution."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    values: tuple[ParameterValue, ...]

    @property
    def corners(self) -> tuple[ParameterValue, ...]:
        return self.values

    @property
    def written(self) -> Any:
        return [plain(value) for value in self.values]

    @property
    def distribution(self) -> BaseDistribution | None:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(list(map(choice_label, self.values)))

    def suggest(self, trial: BaseTrial, name: str) -> ParameterValue:
        by_label = {choice_label(value): value for value in self.values}
        return by_label[trial.suggest_categorical(name, list(by_label))]

    def contains(self, value: ParameterValue) -> bool:
        return value in self.values

    can_store = contains


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """low and high are both included. Integers if both are.

    Attributes:
        log: uniform in the logarithm.
        step: only low, low + step, ... of integers.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int = 1

    @property
    def integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def corners(self) -> tuple[ParameterValue, ...]:
        return (self.low, self.high)

    @property
    def written(self) -> Any:
        written = {"low": self.low, "high": self.high}
        log, step = {"log": True} if self.log else {}, {"step": self.step} if self.step > 1 else {}
        return {**written, **log, **step}

    @property
    def distribution(self) -> BaseDistribution | None:
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=self.step)
        return FloatDistribution(self.low, self.high, log=self.log)

    def suggest(self, trial: BaseTrial, name: str) -> ParameterValue:
        if self.integer:
            low, high = int(self.low), int(self.high)
            return trial.suggest_int(name, low, high, log=self.log, step=self.step)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def contains(self, value: ParameterValue) -> bool:
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return not self.integer or (value - self.low) % self.step == 0

    def can_store(self, value: ParameterValue) -> bool:
        return isinstance(value, int | float) and (value > 0 or not self.log)


Domain = Fixed | Choice | Range


def choice_label(value: ParameterValue) -> bool | int | float | str | None:
    """What Optuna stores for a choice: it takes no lists."""
    return " ".join(map(str, value)) or "-" if isinstance(value, tuple) else value


def domain_from_json(written: Any, name: str, *, is_list: bool = False) -> Domain:
    """A domain as people write it (TOML) and as we store it (JSON).

    A table `{low, high, log, step}` is a range, a list a choice, anything else one fixed value. For
    parameters that are lists of numbers themselves (`is_list`), `[120, 84]` is one value and
    `[[128], [120, 84]]` a choice; `[[]]` is the choice of no layer, and `[]` that value fixed.

    Raises:
        SpecError: not of one of these forms.
    """
    if isinstance(written, dict):
        return _range(written, name)
    if not isinstance(written, list):
        return Fixed(value=_value(written, name))
    if is_list and all(map(_is_whole, written)):
        return Fixed(value=tuple(written))
    if not written:
        raise SpecError(name, f"{name}: an empty list leaves no choice")
    if len(written) > MOST_CHOICES:
        most = f"at most {MOST_CHOICES} choices, but got {len(written)}; give a range"
        raise SpecError(name, f"{name}: a list has {most}")
    values = tuple(_value(value, name) for value in written)
    if len(set(map(repr, values))) < len(values):
        raise SpecError(name, f"{name}: a value appears twice in {shown(written)}")
    return Choice(values=values)


def _range(written: dict[str, Any], name: str) -> Range:
    if not {"low", "high"} <= set(written) <= {"low", "high", "log", "step"}:
        form = "{low = ..., high = ...} with log = true or step = ..."
        raise SpecError(name, f"{name}: a range is {form}")
    low, high = written["low"], written["high"]
    log, step = written.get("log", False), written.get("step", 1)
    wrong = ""
    if not is_number(low) or not is_number(high):
        bound = low if not is_number(low) else high
        wrong = f"a range's ends are numbers up to {LARGEST}, but got {shown(bound)}"
    elif not isinstance(log, bool):
        wrong = f"log is true or false, but got {shown(log)}"
    elif low > high:
        wrong = f"low = {low} is above high = {high}"
    elif log and low <= 0:
        wrong = f"a logarithmic range starts above 0, but low = {low}"
    elif "step" in written and (log or not all(map(_is_whole, (step, low, high))) or step < 1):
        wrong = "step is a whole number from 1 up, of whole numbers without log"
    elif "step" in written and (high - low) % step:
        wrong = f"steps of {step} from {low} do not meet high = {high}"
    if wrong:
        raise SpecError(name, f"{name}: {wrong}")
    return Range(low=low, high=high, log=log, step=step)


def _value(written: Any, name: str) -> ParameterValue:
    if isinstance(written, list) and all(map(_is_whole, written)):
        return tuple(written)
    short = isinstance(written, str) and len(written) <= LONGEST_TEXT
    if short or isinstance(written, bool) or is_number(written):
        value: ParameterValue = written
        return value
    raise SpecError(
        name,
        f"{name} must be a number up to {LARGEST} in size, a text of at most {LONGEST_TEXT} "
        f"characters, true, false or a list, but got {shown(written)}",
    )


def _is_whole(written: Any) -> bool:
    return isinstance(written, int) and is_number(written)


def is_number(written: Any) -> bool:
    """Finite, of a size that both kinds of number can have, and no truth value."""
    if isinstance(written, bool):
        return False
    if isinstance(written, int):
        return abs(written) <= LARGEST
    return isinstance(written, float) and math.isfinite(written)


def plain(value: ParameterValue) -> Any:
    """As JSON and TOML have it: lists for tuples."""
    return list(value) if isinstance(value, tuple) else value


def plain_values(values: Any) -> dict[str, Any]:
    """Each value as JSON has it."""
    return {name: plain(value) for name, value in values.items()}


def check_count(name: str, value: int | None) -> None:
    """Raises SpecError for what is neither None nor a whole number from 1 up."""
    if value is not None and (type(value) is not int or value < 1):
        raise SpecError(name, f"{name} must be a whole number from 1 up, but got {value!r}")
