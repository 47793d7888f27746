"""The values that a parameter may take: one, several, or a range. Loads Optuna to sample."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from data.errors import DataError, did_you_mean
from data.extensions import line_of
from models import ArchitectureError, Parameter
from models.checks import shown
from models.family import Value, count, number

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial

ParameterValue = Value
MOST_CHOICES = 1000  # each gets a network planned, and samplers weigh all of them at each draw
MOST_AT_ONCE = 10_000  # trainings, processes, threads: a larger number is a typo


class SpecError(ValueError):
    """An unusable study specification. One line.

    Attributes:
        key: the offending field of `StudySpec`, parameter, or key of a study file.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@contextmanager
def as_spec_error(key: str, prefix: str = "") -> Iterator[None]:
    """Raise what the block finds wrong as a SpecError about `key`."""
    try:
        yield
    except ArchitectureError as error:
        line = "" if error.__cause__ is None else line_of(error.__cause__)
        raise SpecError(key, f"{prefix}{line}{error}") from error
    except (DataError, SpecError) as error:
        raise SpecError(key, f"{prefix}{error}") from error


def check_keys(written: Iterable[str], known: Collection[str], what: str, where: str = "") -> None:
    """Raises SpecError for the first unknown one; `what` and `where`: "key", " in x"."""
    for key in written:
        if key not in known:
            hint = did_you_mean(key, known)
            message = f"unknown {what} {shown(key)}{where}{hint} (known: {', '.join(known)})"
            raise SpecError(key, message)


def check_fields(
    values: Mapping[str, object], known: Mapping[str, Parameter], optional: Collection[str] = ()
) -> None:
    """Raises SpecError for the first value its parameter rejects; optional ones may be None."""
    for name, value in values.items():
        if (expected := known[name].fault(value)) and not (value is None and name in optional):
            raise SpecError(name, f"{name} must be {expected}, but got {shown(value)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    values: tuple[ParameterValue, ...]

    @property
    def written(self) -> Any:
        """In JSON form: `domain_from_json` reads it back."""
        return plain(self.values)

    @property
    def distribution(self) -> BaseDistribution:
        """What Optuna samples from."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.listed)

    @property
    def listed(self) -> list[Any]:
        """All that Optuna may draw."""
        return list(map(choice_label, self.values))

    def suggest(self, trial: BaseTrial, name: str) -> ParameterValue:
        by_label = {choice_label(value): value for value in self.values}
        return by_label[trial.suggest_categorical(name, list(by_label))]

    def contains(self, value: ParameterValue) -> bool:
        return value in self.values

    can_store = contains  # whether Optuna can store a value under the distribution


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """low and high are both included. Integers if both are."""

    low: int | float
    high: int | float
    log: bool = False  # uniform in the logarithm
    step: int = 1  # for integers, only low, low + step, ...

    @property
    def integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def written(self) -> dict[str, Any]:
        options = {"log": True} if self.log else {"step": self.step} if self.step > 1 else {}
        return {"low": self.low, "high": self.high, **options}

    @property
    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        return (IntDistribution if self.integer else FloatDistribution)(**self.written)

    @property
    def listed(self) -> Sequence[Any] | None:
        """All that Optuna may draw; None for more than one real number."""
        if self.integer:
            return range(int(self.low), int(self.high) + 1, self.step)
        return [self.low] if self.low == self.high else None

    def position(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return (at - low) / (high - low) if high > low else 0.0

    def between(self, value: float, other: float, share: float) -> float:
        """The real number at that share of the way from one to the other; 0 gives the first."""
        start, end = (math.log(x) if self.log else x for x in (value, other))
        at = start + share * (end - start)
        return min(max(math.exp(at) if self.log else at, self.low), self.high)

    def suggest(self, trial: BaseTrial, name: str) -> ParameterValue:
        draw = trial.suggest_int if self.integer else trial.suggest_float
        return draw(name, **self.written)

    def contains(self, value: ParameterValue) -> bool:
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return not self.integer or (value - self.low) % self.step == 0

    def can_store(self, value: ParameterValue) -> bool:
        if not isinstance(value, int | float) or (self.integer and value % 1):
            return False
        return value > 0 or not self.log


Domain = ParameterValue | Choice | Range  # the first: fixed


def distance(
    domains: Mapping[str, Domain], one: Mapping[str, Any], other: Mapping[str, Any]
) -> float:
    """How much two configurations, as Optuna stores them, differ in these parameters: the sum of
    squares of positions in the ranges, and 1 for each choice that differs."""
    return sum(
        (domain.position(one[name]) - domain.position(other[name])) ** 2
        if isinstance(domain, Range)
        else one[name] != other[name]
        for name, domain in domains.items()
    )


def corners(domain: Domain) -> tuple[ParameterValue, ...]:
    """Each value, or the ends of a range."""
    match domain:
        case Choice():
            return domain.values
        case Range():
            return (domain.low, domain.high)
    return (domain,)


def choice_label(value: ParameterValue) -> bool | int | float | str | None:
    """What Optuna stores for a choice: text for a list, because it takes no lists."""
    return " ".join(map(str, value)) or "-" if isinstance(value, tuple) else value


def domain_from_json(written: Any, name: str, *, is_list: bool = False) -> Domain:
    """A domain as users write it (TOML) and as we store it (JSON).

    A table `{low, high, log, step}` is a range, a list a choice, anything else one fixed value. For
    parameters that are themselves lists of numbers (`is_list`), `[120, 84]` is one value and
    `[[128], [120, 84]]` a choice; `[[]]` is the choice of no layer, and `[]` fixes that value.
    Raises SpecError for any other form.
    """
    if isinstance(written, dict):
        return _range(written, name)
    if not isinstance(written, list):
        return _value(written)
    if is_list and _are_whole(written):
        return tuple(written)
    if not written:
        raise SpecError(name, f"{name}: an empty list leaves no choice")
    if len(written) > MOST_CHOICES:
        most = f"{name}: a list has at most {MOST_CHOICES} choices, but got {len(written)}"
        raise SpecError(name, f"{most}; give a range {{low = ..., high = ...}}")
    values = tuple(_value(value) for value in written)
    if len(set(map(repr, values))) < len(values):
        raise SpecError(name, f"{name}: a value appears twice in {shown(written)}")
    return Choice(values=values)


def _range(written: dict[str, Any], name: str) -> Range:
    usual: dict[str, Any] = {"low": None, "high": None, "log": False, "step": 1}
    low, high, log, step = (written.get(key, one) for key, one in usual.items())
    in_steps = not log and _are_whole((low, high, step)) and step > 0 and (high - low) % step == 0
    if (
        written.keys() <= usual.keys()
        and all(type(one) in (int, float) for one in (low, high, step))
        and isinstance(log, bool)
        and (0 < low <= high if log else low <= high)
        and (step == 1 or in_steps)
    ):
        return Range(low=low, high=high, log=log, step=step)
    raise SpecError(
        name,
        f"{name}: a range is {{low = ..., high = ...}} with low <= high, and log = true above 0 or "
        f"a whole step = ... from low to high; but got {shown(written)}",
    )


def _value(written: Any) -> ParameterValue:
    """Not checked: `Parameter.fault` says what else it should have been."""
    return tuple(written) if isinstance(written, list) and _are_whole(written) else written


def _are_whole(written: Iterable[Any]) -> bool:
    return all(type(one) is int for one in written)


def plain(value: Any) -> Any:
    """In the form for JSON and TOML: lists for tuples and ranges, Python's values for NumPy's; what
    is `written`, or a table, for a dataclass."""
    if hasattr(value, "written"):
        return value.written
    if hasattr(value, "tolist"):  # of NumPy, pandas and torch
        return value.tolist()
    if is_dataclass(value):
        value = {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return list(map(plain, value)) if isinstance(value, tuple | list | range) else value


def check_count(name: str, value: int | None) -> None:
    """Raises SpecError unless it is None or a whole number from 1 to MOST_AT_ONCE."""
    check_fields({name: value}, {name: count(1, name, most=MOST_AT_ONCE)}, optional=[name])


def check_ray(address: object, gpus: object) -> None:
    """Raises SpecError unless `address` is text or None, and Ray can give a process that many GPUs:
    a share of one, or whole ones."""
    if not isinstance(address, str | None):
        problem = f"ray must be an address, such as auto or local, but got {shown(address)}"
        raise SpecError("ray", problem)
    check_fields({"gpus_per_worker": gpus}, {"gpus_per_worker": number(0.0, "of a node")})
    if isinstance(gpus, float) and gpus > 1 and gpus % 1:
        problem = f"gpus_per_worker above 1 must be whole, but got {gpus}"
        raise SpecError("gpus_per_worker", problem)


def differing(field: str, old: Any, new: Any) -> str:
    """`with FIELD = 1, but got 2`, and the remedy.

    Only what differs: a table's entries of the same name, a list's entry that is new or missing,
    else its first ones that differ.
    """
    another = "give another --study NAME"
    if isinstance(old, dict) and isinstance(new, dict):
        names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        old, new = ({name: it[name] for name in names if name in it} for it in (old, new))
    elif isinstance(old, list) and isinstance(new, list):
        added, lost = [it for it in new if it not in old], [it for it in old if it not in new]
        if bool(added) != bool(lost):
            one = (added or lost)[0]
            name = one.get("name", one) if isinstance(one, dict) else one
            what = f"the {field.removesuffix('s')} {shown(name)}"
            anew = f"{another}, which trains everything anew, or"
            if added:
                return f"without {what}; {anew} leave it out to resume"
            return f"with {what}, which is missing; {anew} put it back to resume"
        pairs = (pair for pair in zip(old, new, strict=False) if pair[0] != pair[1])
        old, new = next(pairs, (old, new))
    how = f"with {field} = {shown(old)}, but got {shown(new)}"
    return f"{how}; {another}, or leave it out to resume"
