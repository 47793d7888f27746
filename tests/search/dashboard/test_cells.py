"""Tables that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.dashboard.cells import without_formulas


def rows(table: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table.decode(), newline="")))


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "-", "- 1", "＝1+1", "＋1+1", "－1+1",
     "＠SUM(1)", "﹦1", "⁼1", "−1+1", ' "=1', "\ufeff=1", "\u200b=1", "\v=1", "\x85=1",
     "\x1b=1", "-1_0", "-１"],
)  # fmt: skip
def test_formulas_become_text(cell: str) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(["a", cell])
    [[first, second]] = rows(without_formulas(written.getvalue().encode()))
    assert first == "a"
    assert second == "'" + re.sub(r"[\t\r\v\x85]", " ", cell)


@pytest.mark.parametrize(
    ("cell", "harmless"),
    [
        ("a;=1+1", "a;'=1+1"),
        ("a;;=1+1;@b", "a;;'=1+1;'@b"),
        ('a; "=1+1', """a;' "=1+1"""),
        ("a,=1+1", "a,'=1+1"),
        ("a|=1+1", "a|'=1+1"),
        ("a；＝1", "a；'＝1"),
        ("a\t=1+1", "a =1+1"),  # a tab is a space: no cell begins behind it
        ("a\n=1+1", "a =1+1"),
        ("-1;b", "'-1;b"),
        ("-0.5;1e-3, +3", "-0.5;1e-3, +3"),
        ("[0.1, -0.5]", "[0.1, -0.5]"),
    ],
)
def test_formulas_behind_what_may_separate_cells(cell: str, harmless: str) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(["a", cell])
    assert rows(without_formulas(written.getvalue().encode())) == [["a", harmless]]


@given(st.lists(st.text("=+-@;,|\t\r\n\"' ab1\u200b＝；", max_size=12), min_size=1, max_size=4))
def test_however_it_is_cut_no_cell_begins_with_a_sign(cells: list[str]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(cells)
    table = without_formulas(written.getvalue().encode()).decode()
    for separator in (",", ";", "\t", "|"):
        for row in csv.reader(io.StringIO(table, newline=""), delimiter=separator):
            for cell in row:
                plain = unicodedata.normalize("NFKC", cell).lstrip(' "\u200b')
                assert not plain.startswith(("=", "@")), (table, separator)
                if plain.startswith(("+", "-")):
                    assert re.match(r"[+-]1", plain), (table, separator)  # a number, no name


def test_all_else_stays() -> None:
    table = 'Number,Value,Param x\r\n0,-0.5,"a, ""b"""\r\n1,-1e-05,+3\r\n2,-inf,\r\n3,1=2,ü\r\n'
    assert without_formulas(table.encode()) == table.encode()


def test_a_cell_stays_on_its_line_and_may_be_large() -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(["a\r\nb", "x" * 500_000, "a\x00b"])
    assert rows(without_formulas(written.getvalue().encode())) == [["a  b", "x" * 500_000, "a b"]]
