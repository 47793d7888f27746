"""What a field of an architecture may hold, and the one error for what it may not."""

import math
from collections.abc import Sequence


class ArchitectureError(ValueError):
    """A network that cannot be built. One line: what does not fit, and what to change."""


def is_count(value: object, least: int = 1) -> bool:
    """Whether `value` is a whole number from `least` up; True and False are not numbers here."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_counts(field: str, value: object, least: int = 1) -> None:
    if not isinstance(value, tuple) or not all(is_count(entry, least) for entry in value):
        raise ArchitectureError(
            f"{field} must be a list of whole numbers from {least} up, but got {_shown(value)}"
        )


def check_length(field: str, value: tuple[int, ...], allowed: tuple[int, ...], depth: int) -> None:
    if len(value) not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ArchitectureError(
            f"{field} must have {wanted} entries for {depth} convolutions, "
            f"but has {len(value)}: {_shown(value)}"
        )


def check_layer_numbers(field: str, value: object, layers: int) -> None:
    """Layer numbers as people count: from 1, rising, none above `layers`."""
    check_counts(field, value)
    assert isinstance(value, tuple)
    if list(value) != sorted(set(value)) or (value and value[-1] > layers):
        raise ArchitectureError(
            f"{field} must name convolutions from 1 to {layers}, each once and in rising order, "
            f"but got {_shown(value)}"
        )


def check_choice(field: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(choices)
        raise ArchitectureError(f"{field} must be one of {names}, but got {_shown(value)}")


def check_switch(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ArchitectureError(f"{field} must be true or false, but got {_shown(value)}")


def check_rate(field: str, value: object) -> None:
    """A dropout rate: the share of values set to zero, in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArchitectureError(f"{field} must be a number, but got {_shown(value)}")
    if not (math.isfinite(value) and 0 <= value < 1):
        raise ArchitectureError(f"{field} must be at least 0 and below 1, but got {value!r}")


def _shown(value: object) -> str:
    """A value as its owner wrote it: in TOML, JSON and on the command line lists are lists."""
    return repr(list(value) if isinstance(value, tuple) else value)
