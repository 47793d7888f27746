from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest

from search.pages.page import (
    Html,
    facts,
    figure,
    footer,
    heading,
    listing,
    page,
    paragraph,
    table,
)

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


def everything() -> str:
    parts = [
        heading(HOSTILE),
        paragraph(HOSTILE, "warning"),
        listing(HOSTILE),
        facts([(HOSTILE, HOSTILE)]),
        table([HOSTILE], [[HOSTILE]], caption=HOSTILE, numbers=(0,)),
        figure(a_figure()),
        figure(a_figure()),
        footer(HOSTILE),
    ]
    return page(HOSTILE, parts)


def test_what_people_typed_stays_text() -> None:
    reader = Reader(everything())
    # plotly.js, our own few lines, and the data of two figures
    assert len(reader.scripts) == 4
    assert not [tag for tag, _ in reader.elements if tag == "img"]
    assert not [a for _, attributes in reader.elements for a in attributes if a.startswith("on")]
    assert reader.words.count(HOSTILE) == 11


def test_figures_arrive_as_they_were_sent() -> None:
    reader = Reader(everything())
    data = [json.loads(text) for text in reader.scripts if text.startswith('{"data"')]
    assert data == [json.loads(a_figure().to_json())] * 2


def test_nothing_is_loaded_from_anywhere() -> None:
    reader = Reader(everything())
    for _, attributes in reader.elements:
        assert not {"src", "href", "action", "srcset", "data"} & set(attributes)
    style = everything().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_admits_exactly_the_scripts_that_are_there() -> None:
    reader = Reader(everything())
    policy = next(
        attributes["content"]
        for tag, attributes in reader.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    admitted = set(re.findall(r"'sha256-([^']+)'", policy))
    run = [text for text in reader.scripts if not text.startswith('{"data"')]
    assert admitted == {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run
    }
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_a_page_without_figures_is_small_and_runs_nothing() -> None:
    text = page("title", [paragraph("words")])
    assert len(text) < 6_000
    assert "script-src 'none'" in text
    assert "<script" not in text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_draws_the_figures_under_that_policy(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    probe = Html('<img src="https://example.invalid/x.png" onerror="document.title = 1">')
    file.write_text(page("title", [probe, figure(a_figure())]), encoding="utf-8")
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000"),
            *("--dump-dom", file.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert 'class="main-svg"' in done.stdout  # plotly ran
    assert "<title>title</title>" in done.stdout  # an attribute that is a script did not
