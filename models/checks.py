"""The one error for impossible networks, and how messages show a wrong value."""

from collections.abc import Sequence


class ArchitectureError(ValueError):
    """A network that cannot be built. One line: what does not fit, and what to change."""


MOST_LAYERS = 200  # convolutions, or hidden layers
MOST_COUNT = 10**9
LONGEST_SHOWN = 200  # characters of a wrong value, which may be very long in a file
LONGEST_LINE = 300  # characters of a library's message, which may quote a whole file


def shown(value: object) -> str:
    """A value as the user wrote it, in TOML, JSON or on the command line, cut short."""
    text = " ".join(repr(_as_lists(value)).splitlines())  # arrays have several
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _as_lists(value: object) -> object:
    return list(map(_as_lists, value)) if isinstance(value, tuple) else value


def first_line(error: BaseException) -> str:
    """Of the error's message, without its middle if it is long. Empty if there is none."""
    line, half = (str(error).splitlines() or [""])[0], LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


def by(sides: Sequence[int]) -> str:
    """`3x32x32`."""
    return "x".join(map(str, sides))
