"""This package's error; how messages show names, paths and numbers. Does not import torch."""

import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


class DataError(ValueError):
    """What is wrong with a data set, in one line that names the value and the remedy."""


def shown(path: str | bytes | Path) -> str:
    """The path on one line, with unprintable bytes and characters as backslash escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_any_text() -> None:
    """Let standard output and standard error take any text: what they cannot show becomes `?`.

    On Windows, files and pipes are in UTF-8, as from Python 3.15 on: its older encodings have no −.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_redirected = sys.platform == "win32" and not stream.isatty()
            stream.reconfigure(encoding="utf-8" if is_redirected else None, errors="replace")


def reason(error: BaseException) -> str:
    """A library's error message on one line, cut short because it may quote a whole file."""
    return shown(" ".join(str(error).split()))[:200] or type(error).__name__


def grouped(number: int) -> str:
    """Digits in groups of three: 221 950."""
    return f"{number:,}".replace(",", " ")


def listed(paths: Sequence[str | Path], most: int = 20) -> str:
    """`a, b, c and 4 more`."""
    named = ", ".join(shown(path) for path in paths[:most])
    return named if len(paths) <= most else f"{named} and {len(paths) - most} more"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'digits'?`, or nothing if no known name is similar."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def is_text(name: str) -> bool:
    """Whether the name can be stored and printed: no control characters or undecodable bytes."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)


def refuse_names(paths: Sequence[str | Path]) -> None:
    """Raises DataError for paths that can be neither shown nor stored."""
    if bad := [path for path in paths if not is_text(str(path))]:
        raise DataError(
            f"{listed(bad)}: the name has control characters or is not valid UTF-8; rename it"
        )
