"""What a field of an architecture may hold, and the one error for what it may not."""

from collections.abc import Sequence


class ArchitectureError(ValueError):
    """A network that cannot be built. One line: what does not fit, and what to change."""


MOST_LAYERS = 200  # convolutions, or hidden layers
MOST_COUNT = 10**9
LONGEST_SHOWN = 200  # characters of a wrong value, which a file may have made very long


def is_count(value: object, least: int = 1) -> bool:
    """Whether `value` is a whole number from `least` up, of a size that anything can have; True
    and False are not numbers here."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return least <= value <= MOST_COUNT


def check_counts(field: str, value: object, least: int = 1) -> None:
    if isinstance(value, tuple) and any(isinstance(n, int) and n > MOST_COUNT for n in value):
        raise ArchitectureError(
            f"{field} must be a list of whole numbers up to {MOST_COUNT}, but got {shown(value)}"
        )
    if not isinstance(value, tuple) or not all(is_count(entry, least) for entry in value):
        raise ArchitectureError(
            f"{field} must be a list of whole numbers from {least} up, but got {shown(value)}"
        )
    if len(value) > MOST_LAYERS:
        raise ArchitectureError(
            f"{field} must have at most {MOST_LAYERS} entries, but has {len(value)}"
        )


def check_length(field: str, value: tuple[int, ...], allowed: tuple[int, ...], depth: int) -> None:
    if len(value) not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise ArchitectureError(
            f"{field} must have {wanted} entries for {depth} convolutions, "
            f"but has {len(value)}: {shown(value)}"
        )


def check_layer_numbers(field: str, value: object, layers: int) -> None:
    """Layer numbers as people count: from 1, rising, none above `layers`."""
    check_counts(field, value)
    assert isinstance(value, tuple)
    if list(value) != sorted(set(value)) or (value and value[-1] > layers):
        raise ArchitectureError(
            f"{field} must name convolutions from 1 to {layers}, each once and in rising order, "
            f"but got {shown(value)}"
        )


def check_choice(field: str, value: object, choices: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(choices)
        raise ArchitectureError(f"{field} must be one of {names}, but got {shown(value)}")


def check_switch(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ArchitectureError(f"{field} must be true or false, but got {shown(value)}")


def check_rate(field: str, value: object) -> None:
    """A dropout rate: the share of values set to zero, in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArchitectureError(f"{field} must be a number, but got {shown(value)}")
    if not 0 <= value < 1:
        raise ArchitectureError(f"{field} must be at least 0 and below 1, but got {shown(value)}")


def shown(value: object) -> str:
    """A value as its owner wrote it, cut short: in TOML, JSON and on the command line lists are
    lists."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
