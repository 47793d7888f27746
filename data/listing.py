"""Paths in messages: printable whatever their bytes, and never more than a person will read."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

MOST = 20  # paths that are named singly


def shown(path: str | Path) -> str:
    """The path on one line; what is no text, or cannot be shown, as backslash escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(paths: Sequence[str | Path], most: int = MOST) -> str:
    """`a, b, c and 4 more`."""
    named = ", ".join(shown(path) for path in paths[:most])
    return named if len(paths) <= most else f"{named} and {len(paths) - most} more"


def is_text(name: str) -> bool:
    """Whether it can be stored and shown: no control characters, no bytes that are no text."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)
