"""Tables for other programs, CSV and JSON: lists of rows, dicts with the same keys."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

# What a spreadsheet would compute; a number with its sign is none.
FORMULA = re.compile(r"[=@\t\r]|[+-](?!(?:[\d.]+(?:e[+-]?\d+)?|inf)\Z)")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Dates in ISO 8601; empty where there is no value; nothing that a spreadsheet computes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _safe(_plain(it)) for name, it in row.items()} for row in rows)
    return text.getvalue()


def without_formulas(text: str) -> str:
    """A table in CSV, with an apostrophe before what a spreadsheet would take for a formula."""
    safe = io.StringIO()
    rows = csv.reader(io.StringIO(text, newline=""))
    csv.writer(safe).writerows([_safe(cell) for cell in row] for row in rows)
    return safe.getvalue()


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def json_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A list of objects; null where there is no finite value."""
    plain = [{name: _plain(it) for name, it in row.items()} for row in rows]
    return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bool | int | float | str | list | tuple | None):
        return value
    return value.isoformat()
