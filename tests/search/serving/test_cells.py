"""Tables that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io

import pytest

from search.serving.cells import without_formulas


def rows(table: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table.decode(), newline="")))


@pytest.mark.parametrize("cell", ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "-", "- 1"])
def test_formulas_become_text(cell: str) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(["a", cell])
    [[first, second]] = rows(without_formulas(written.getvalue().encode()))
    assert first == "a"
    assert second == "'" + cell.replace("\r", " ")


def test_all_else_stays() -> None:
    table = 'Number,Value,Param x\r\n0,-0.5,"a, ""b"""\r\n1,-1e-05,+3\r\n2,-inf,\r\n3,1=2,ü\r\n'
    assert without_formulas(table.encode()) == table.encode()


def test_a_cell_stays_on_its_line_and_may_be_large() -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(["a\r\nb", "x" * 500_000, "a\x00b"])
    assert rows(without_formulas(written.getvalue().encode())) == [["a  b", "x" * 500_000, "a b"]]
