"""Where in a study file a key is: the parser gives no line numbers."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator

Table = tuple[str, str | int]  # [[name]], and its own name or its number from 0


def line_of(text: str, key: str, table: Table | None) -> int | None:
    """The line of the key's first mention, as a key or as a table; None where there is none.

    Of a key in one of several tables of one name, the mention in that table, or the table's head.
    """
    lines = list(_lines(text))
    if table is not None:
        names = [one.get("name") for one in tomllib.loads(text).get(table[0], [])]
        number = names.index(table[1]) if table[1] in names else table[1]
        inside = [(n, line) for n, owner, line in lines if owner == (table[0], number)]
        if inside:
            return next((n for n, line in inside if _mentions(line, key)), inside[0][0])
    mentions = [(owner is not None, n) for n, owner, line in lines if _mentions(line, key)]
    return min(mentions)[1] if mentions else None


def _lines(text: str) -> Iterator[tuple[int, tuple[str, int] | None, str]]:
    """(number, the [[table]] that it belongs to and which of those, the line itself)."""
    table: tuple[str, int] | None = None
    seen: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*(\[+)\s*([\w.-]+)\s*\]", line)
        if head is not None:  # [arm.reported] belongs to the last [[arm]]
            name = head[2].partition(".")[0]
            seen[name] += head[1] == "[[" and head[2] == name
            table = (name, seen[name] - 1) if seen[name] else None
        yield number, table, line


def _mentions(line: str, key: str) -> bool:
    name = re.escape(key)
    pattern = rf"""\s*(\[+\s*(\w+\.)*{name}\s*\]+|(\w+\.)*["']?{name}["']?\s*[=.])"""
    return re.match(pattern, line) is not None
