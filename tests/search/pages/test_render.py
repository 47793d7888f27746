"""Markdown, text and pages in which every text stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest
from markdown_it import MarkdownIt

from search.pages.render import code, escape, head, page, row

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=y> \"'&"


class Reader(HTMLParser):
    """Collects elements, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words += data


def a_figure() -> go.Figure:
    return go.Figure(go.Scatter(x=[1, 2], y=[3, 4], text=[HOSTILE, ""]))


@pytest.fixture(scope="module")
def everything() -> str:
    typed = escape(HOSTILE)
    parts = [
        f"# {typed}",
        f"- {typed}: **{typed}**",
        f"{head(HOSTILE)}\n{row(HOSTILE)}",
        code(HOSTILE),
        f"![{typed}](figures/one)",
        "![two](figures/two.png)",
        "![three](figures/three.png)",
    ]
    figures = {"one": a_figure(), "two": a_figure()}
    return page(HOSTILE, "\n\n".join(parts), figures, {"three": b"\x89PNG"})


def test_what_people_typed_stays_text(everything: str) -> None:
    reader = Reader(everything)
    # plotly.js, our own few lines, and the data of two figures
    assert len(reader.scripts) == 4
    images = [attributes for tag, attributes in reader.elements if tag == "img"]
    assert [image["src"] for image in images] == ["data:image/png;base64,iVBORw=="]
    assert not [a for _, attributes in reader.elements for a in attributes if a.startswith("on")]
    assert reader.words.count(HOSTILE) == 7
    data = [json.loads(text) for text in reader.scripts if text.startswith('{"data"')]
    assert data == [json.loads(a_figure().to_json())] * 2
    assert [a["aria-label"] for _, a in reader.elements if "aria-label" in a] == [HOSTILE, "two"]


def test_nothing_is_loaded_from_anywhere(everything: str) -> None:
    for tag, attributes in Reader(everything).elements:
        assert not {"href", "action", "srcset", "data"} & set(attributes)
        assert tag == "img" or "src" not in attributes
    style = everything.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_admits_exactly_the_scripts_that_are_there(everything: str) -> None:
    reader = Reader(everything)
    policy = next(a["content"] for tag, a in reader.elements if "http-equiv" in a) or ""
    run = [text for text in reader.scripts if not text.startswith('{"data"')]
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run
    }
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_a_page_without_figures_is_small_and_runs_nothing() -> None:
    text = page("title", "words", {})
    assert len(text) < 6_000
    assert "script-src 'none'" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    "typed", ["a_b *c* <d> & `e` | #f ~g~ \\h [i](j)", "- a", "+ b", "1. c", "2) d", "= e", "# f"]
)
def test_escaped_text_reads_as_typed(typed: str) -> None:
    shown = typed.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert MarkdownIt("commonmark").render(escape(typed)) == f"<p>{shown}</p>\n"
    assert row(typed).count("|") == 2  # nothing in a cell ends it
