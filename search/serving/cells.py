"""Downloaded tables: cells that a spreadsheet would run."""

from __future__ import annotations

import csv
import io

_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def without_formulas(table: bytes) -> bytes:
    """The CSV (UTF-8) with an apostrophe before every text that a spreadsheet takes for a formula.

    Numbers stay as they are, and so does every cell's text but for characters that no cell needs:
    NUL and line ends within become spaces. Source: OWASP, CSV Injection.
    """
    lines = io.StringIO(table.decode("utf-8", "replace").replace("\0", " "), newline="")
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    csv.field_size_limit(2**31 - 1)
    for row in csv.reader(lines):
        writer.writerow([_harmless(cell) for cell in row])
    return written.getvalue().encode("utf-8")


def _harmless(cell: str) -> str:
    if cell.startswith(_STARTS) and not _is_number(cell):
        cell = f"'{cell}"
    return cell.replace("\r", " ").replace("\n", " ")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell == cell.strip()
