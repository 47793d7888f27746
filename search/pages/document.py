"""A report as a list of blocks, written out twice: as an offline page and as Markdown.

Texts in blocks are plain, as people typed them: both writers escape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from search.pages import page
from search.pages.markdown import code_block, markdown_table
from search.pages.note import escape
from search.pages.page import Html

HEIGHT = 440  # pixels of a figure that does not say


@dataclass(frozen=True, kw_only=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Paragraph:
    """`kind`: a class of the page's style sheet, `lead` or `warning`. `label`: stands before it."""

    text: str
    kind: str = ""
    label: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """The few figures that matter most: (name, value)."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """`numbers`: columns that are aligned to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numbers: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plot:
    """A figure. `name`: of its files; `alt`: what it shows, for who cannot see it."""

    name: str
    figure: go.Figure
    alt: str

    @property
    def height(self) -> int:
        """In pixels of the page: the figure's own, if it has one."""
        return self.figure.layout.height or HEIGHT


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    text: str
    language: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footer:
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """What not every reader wants: closed until clicked, in Markdown open."""

    summary: str
    blocks: Sequence[Paragraph | Table | Listing]


Block = Heading | Paragraph | Facts | Table | Plot | Listing | Footer | Details


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    title: str
    blocks: tuple[Block, ...]

    @property
    def plots(self) -> list[Plot]:
        return [block for block in self.blocks if isinstance(block, Plot)]


def as_html(document: Document) -> str:
    """One offline page."""
    return page.page(document.title, map(_html, document.blocks))


def as_markdown(document: Document, figures: str, kind: str) -> str:
    """Markdown in GitHub's dialect. Figures are the files `{figures}/{name}.{kind}`."""
    parts = [f"# {escape(document.title)}"]
    for block in document.blocks:
        parts += _markdown(block, figures, kind)
    return "\n\n".join(filter(None, parts)) + "\n"


def _html(block: Block) -> Html:
    match block:
        case Heading():
            return page.heading(block.text, block.level)
        case Paragraph(label=""):
            return page.paragraph(block.text, block.kind)
        case Paragraph():
            return page.labelled(block.label, block.text)
        case Facts():
            return page.facts(block.pairs)
        case Table():
            return page.table(
                block.header, block.rows, caption=block.caption, numbers=block.numbers
            )
        case Plot():
            return page.figure(block.figure, block.height)
        case Listing():
            return page.listing(block.text)
        case Footer():
            return page.footer(block.text)
        case Details():
            return page.details(block.summary, map(_html, block.blocks))


def _markdown(block: Block, figures: str, kind: str) -> Iterator[str]:
    match block:
        case Heading():
            yield f"{'#' * block.level} {escape(block.text)}"
        case Paragraph(kind="warning"):
            yield f"> **Note.** {escape(block.text)}"
        case Paragraph(label=""):
            yield escape(block.text)
        case Paragraph():
            yield f"**{escape(block.label)}.** {escape(block.text)}"
        case Facts():
            yield "\n".join(f"- {escape(name)}: **{escape(text)}**" for name, text in block.pairs)
        case Table():
            yield markdown_table(_escaped([block.header])[0], _escaped(block.rows), block.numbers)
            yield escape(block.caption)
        case Plot():
            yield f"![{escape(block.alt)}]({figures}/{block.name}.{kind})"
        case Listing():
            yield code_block(block.text, block.language)
        case Footer():
            yield f"---\n\n{escape(block.text)}"
        case Details():
            yield f"**{escape(block.summary)}**"
            for part in block.blocks:
                yield from _markdown(part, figures, kind)


def _escaped(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    return [[escape(cell) for cell in row] for row in rows]
