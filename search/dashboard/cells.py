"""Downloaded tables: cells that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

_SIGNS = ("=", "+", "-", "@", "\N{MINUS SIGN}")
_SKIPPED = re.compile(r"^[\W\s]*?(?=[=+\-@\N{MINUS SIGN}])")  # spaces, quotes, invisible signs
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+|inf|nan)(?:e[+-]?\d+)?"
_NUMBERS = re.compile(rf"[\[({{]*{_NUMBER}(?:[,;|] ?{_NUMBER})*[])}}]*", re.IGNORECASE | re.ASCII)


def without_formulas(table: bytes) -> bytes:
    """The CSV (UTF-8) with an apostrophe before every text that a spreadsheet takes for a formula.

    Numbers and lists of them stay as they are. Source: OWASP, "CSV injection".
    """
    lines = io.StringIO(table.decode("utf-8", "replace").replace("\0", " "), newline="")
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    csv.field_size_limit(2**31 - 1)
    for row in csv.reader(lines):
        writer.writerow([f"'{cell}" if _is_formula(cell) else cell for cell in row])
    return written.getvalue().encode("utf-8")


def _is_formula(cell: str) -> bool:
    """Whether a sign comes first, behind spaces, quotes and what cannot be seen."""
    text = _SKIPPED.sub("", unicodedata.normalize("NFKC", cell))
    return text.startswith(_SIGNS) and not _NUMBERS.fullmatch(cell)
