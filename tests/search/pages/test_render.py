"""Markdown, text and pages in which every text stays text."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest
from markdown_it import MarkdownIt

from search.pages.render import code, escape, evaluation_in_words, head, page, row
from search.running.results import Study
from search.store.records import ResultRow
from search.store.views import StudyView

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=y> \"'&"


def a_figure() -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2], y=[3, 4], text=[HOSTILE, ""]))


@pytest.fixture(scope="module")
def everything() -> str:
    typed = escape(HOSTILE)
    parts = [
        *(
            f"# {typed}",
            f"- {typed}: **{typed}**",
            f"{head(HOSTILE)}\n{row(HOSTILE)}",
            code(HOSTILE),
        ),
        *(f"![{typed}](figures/one)", "![two](figures/two.png)", "![three](figures/three.png)"),
    ]
    figures = {"one": a_figure(), "two": a_figure(), "three": b"\x89PNG"}
    return page(HOSTILE, "\n\n".join(parts), figures)


def test_typed_text_stays_text_and_nothing_is_loaded(everything: str) -> None:
    scripts = re.findall(r"<script.*?>(.*?)</script>", everything, re.DOTALL)
    # plotly.js, our own few lines twice, and the data of two figures
    assert len(scripts) == 5
    data = [json.loads(text) for text in scripts if text.startswith('{"data"')]
    assert data == [json.loads(a_figure().to_json())] * 2
    rest = re.sub(r"<(script|style).*?</\1>", "", everything, flags=re.DOTALL)
    elements = re.findall(r"<[^!/>][^>]*>", rest)
    assert [one for one in elements if one.startswith("<img")] == [
        '<img alt="three" src="data:image/png;base64,iVBORw==">'
    ]
    names = re.sub(r'"[^"]*"', "", "".join(elements))
    assert not re.search(r"\s(on\w+|href|action|srcset)=", names)
    assert names.count(" src=") == 1
    assert html.unescape(re.sub(r"<[^>]*>", "", rest)).count(HOSTILE) == 7
    assert html.unescape(rest).count(f'aria-label="{HOSTILE}"') == 1
    style = everything.split("<style>")[1].split("</style>")[0]
    assert not re.search(r"url\(|@import", style)
    # The policy allows exactly the scripts on the page.
    policy = re.findall(r"'sha256-([^']+)'", everything)
    assert set(policy) == {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in scripts
        if not text.startswith('{"data"')
    }
    assert "default-src 'none'; script-src 'sha256-" in everything


def test_evaluations_carry_date_seeds_and_spread(
    small_study: StudyView, result_row: ResultRow
) -> None:
    found = dict(result_row.figures or {})
    longer, one = {**found, "requested_epochs": 6}, {**found, "std": None, "loss_std": None}
    accuracy, loss = "accuracy 93.12 % ± 0.25 (sampling)", "loss 0.2101"
    three = f"seeds 0, 1, 2: {accuracy} ± 0.12 (3 seeds), {loss} ± 0.0030 (3 seeds)"
    changes: dict[str, dict[str, Any]] = {
        f"trial 3, {three}, on 10 000 images": {},
        f"trial 3, 6 epochs, {three}, on 10 000 images": {"figures": longer},
        f"trial 3 of an earlier study of this name, {three}, on 10 000 images": {"is_ours": False},
        f"trial 3, seeds 5: {accuracy}, {loss}, on 10 000 images": {"figures": one, "seeds": (5,)},
        "trial 3, seeds 0, 1, 2: started, but not finished": {"figures": None},
    }
    for said, changed in changes.items():
        told = evaluation_in_words(small_study, replace(result_row, **changed))
        assert told == f"2026-03-02 10:30 UTC: {said}"
    results = (replace(result_row, figures=longer),)
    table = Study.of(replace(small_study, results=results)).to_pandas("results")
    assert list(table.requested_epochs) == [6]


def test_a_page_without_figures_is_small_and_runs_nothing() -> None:
    text = page("title", "words", {})
    assert len(text) < 6_000
    assert "script-src 'none'" in text
    assert "<script" not in text


def test_numbers_are_not_torn_apart_at_the_ends_of_lines() -> None:
    text = page("title", "#0 (37 630 parameters, 92.93 % ± 0.26) `--trials 1 000`", {})
    gap = "\N{NO-BREAK SPACE}"
    assert f"<p>#0 (37{gap}630 parameters, 92.93{gap}% ±{gap}0.26)" in text
    assert "<code>--trials 1 000</code>" in text  # to be pasted


@pytest.mark.parametrize(
    "typed", ["a_b *c* <d> & `e` | #f ~g~ \\h [i](j)", "- a", "+ b", "1. c", "2) d", "= e", "# f"]
)
def test_escaped_text_reads_as_typed(typed: str) -> None:
    shown = typed.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert MarkdownIt("commonmark").render(escape(typed)) == f"<p>{shown}</p>\n"
    assert row(typed).count("|") == 2  # nothing in a cell ends it
