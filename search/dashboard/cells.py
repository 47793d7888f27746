"""Downloaded tables: cells that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

_SIGNS = ("=", "+", "-", "@", "\N{MINUS SIGN}")
# A cell may be cut here too: which sign separates cells depends on the country and the import.
_SEPARATORS = re.compile(r"([,;|，；｜])")
_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]")  # what ends a cell or a line
_SKIPPED = re.compile(
    r"^[\s\x00-\x1f\x7f-\x9f\"\u201c-\u201f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]+"
)
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+|inf|nan)(?:e[+-]?\d+)?"
_NUMBERS = re.compile(rf"[\[({{]*{_NUMBER}(?:[,;|] ?{_NUMBER})*[])}}]*", re.IGNORECASE | re.ASCII)


def without_formulas(table: bytes) -> bytes:
    """The CSV (UTF-8) with an apostrophe before every text that a spreadsheet takes for a formula.

    Also within a cell, behind what may separate cells, and where the sign is of another width,
    which some spreadsheets read alike. Numbers and lists of them stay as they are, and so does
    every cell's text but for tabs and line ends: each becomes a space. Source: OWASP.
    """
    lines = io.StringIO(table.decode("utf-8", "replace").replace("\0", " "), newline="")
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    csv.field_size_limit(2**31 - 1)
    for row in csv.reader(lines):
        writer.writerow([_harmless(cell) for cell in row])
    return written.getvalue().encode("utf-8")


def _harmless(cell: str) -> str:
    if _NUMBERS.fullmatch(cell):
        return cell
    parts = _SEPARATORS.split(_BREAKS.sub(" ", cell))
    return "".join(f"'{part}" if _is_formula(part) else part for part in parts)


def _is_formula(text: str) -> bool:
    """Whether a sign comes first, behind spaces, quotes and what cannot be seen."""
    return _SKIPPED.sub("", unicodedata.normalize("NFKC", text)).startswith(_SIGNS)
