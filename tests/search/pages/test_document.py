from __future__ import annotations

import plotly.graph_objects as go
import pytest

from search.pages.document import (
    Block,
    Details,
    Document,
    Facts,
    Footer,
    Heading,
    Listing,
    Paragraph,
    Plot,
    Table,
    as_html,
    as_markdown,
)

HOSTILE = "<img src=x onerror=y> | `a` [b](c) *d*"
BLOCKS: tuple[Block, ...] = (
    Heading(text="Head"),
    Heading(text="Below", level=3),
    Paragraph(text="Plain."),
    Paragraph(text="Careful.", kind="warning"),
    Paragraph(text="So it is.", label="Why"),
    Facts(pairs=(("loss", "0.2"), ("size", "3"))),
    Table(header=("a", "n"), rows=[("x", "1")], caption="What it is.", numbers=(1,)),
    Plot(name="curves", figure=go.Figure(go.Scatter(x=[1], y=[2])), alt="A curve"),
    Listing(text="run me", language="sh"),
    Details(summary="More", blocks=(Paragraph(text="Inside."), Listing(text="code"))),
    Footer(text="End."),
)


def document(*blocks: Block, title: str = "A title") -> Document:
    return Document(title=title, blocks=blocks)


def test_markdown_of_every_block() -> None:
    assert as_markdown(document(*BLOCKS), "figures", "svg") == (
        "# A title\n\n## Head\n\n### Below\n\nPlain.\n\n> **Note.** Careful.\n\n"
        "**Why.** So it is.\n\n- loss: **0.2**\n- size: **3**\n\n"
        "| a | n |\n| --- | ---: |\n| x | 1 |\n\nWhat it is.\n\n"
        "![A curve](figures/curves.svg)\n\n```sh\nrun me\n```\n\n"
        "**More**\n\nInside.\n\n```\ncode\n```\n\n---\n\nEnd.\n"
    )


def test_html_of_every_block() -> None:
    text = as_html(document(*BLOCKS))
    for piece in (
        "<h1>A title</h1>",
        "<h2>Head</h2>",
        "<h3>Below</h3>",
        '<p class="warning">Careful.</p>',
        "<p><b>Why.</b> So it is.</p>",
        "<dt>loss</dt><dd>0.2</dd>",
        '<td class="number">1</td>',
        "<caption>What it is.</caption>",
        'class="figure"',
        "<pre>run me</pre>",
        "<details><summary>More</summary>",
        "<footer>End.</footer>",
    ):
        assert piece in text, piece


def test_both_writers_escape_every_text() -> None:
    blocks: tuple[Block, ...] = (
        Heading(text=HOSTILE),
        Paragraph(text=HOSTILE),
        Paragraph(text=HOSTILE, kind="warning"),
        Paragraph(text=HOSTILE, label=HOSTILE),
        Facts(pairs=((HOSTILE, HOSTILE),)),
        Table(header=(HOSTILE,), rows=[(HOSTILE,)], caption=HOSTILE),
        Details(summary=HOSTILE, blocks=(Paragraph(text=HOSTILE),)),
        Footer(text=HOSTILE),
    )
    html = as_html(document(*blocks, title=HOSTILE))
    assert "<img" not in html
    markdown = as_markdown(document(*blocks, title=HOSTILE), "figures", "png")
    for piece in ("<img", "](", "`a`", "*d*"):
        assert piece not in markdown, piece
    row = next(line for line in markdown.splitlines() if line.startswith("| ") and "img" in line)
    assert row.count("|") == 2  # nothing in a cell ends it


def test_code_keeps_its_fence() -> None:
    text = as_markdown(document(Listing(text="a\n```\nb", language="toml")), "figures", "png")
    assert "````toml\na\n```\nb\n````" in text


def test_the_plots_of_a_document() -> None:
    assert [plot.name for plot in document(*BLOCKS).plots] == ["curves"]
    with pytest.raises(AttributeError):
        document().title = "another"  # type: ignore[misc]
