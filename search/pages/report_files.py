"""A study's report as a document, and its files: page, Markdown, and every figure for a paper."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from search.figures.figure_files import drawn
from search.figures.file_kinds import KINDS, Kind
from search.figures.final_pictures import rendered
from search.pages.document import Block, Document, as_html, as_markdown
from search.pages.report_comparison import comparison_blocks
from search.pages.report_frame import head, repetition, test_readings, title
from search.pages.report_journal import journal_blocks
from search.pages.report_search import search_blocks
from search.store.views import StudyView
from search.training.files import write_atomically

FIGURES = "figures"  # folder beside the page
NAMES = (  # of all figures that a report may have
    *("history", "curves", "parameters", "time", "importances", "parallel", "kinds", "dropout"),
    *("arms", "effects"),
)


def report(view: StudyView, now: datetime) -> Document:
    """The report of a study as it stands; none needs a finished trial."""
    return Document(title=title(view), blocks=tuple(_blocks(view, now)))


def _blocks(view: StudyView, now: datetime) -> Iterator[Block]:
    yield from head(view, now)
    if view.spec.is_comparison:
        yield from comparison_blocks(view)
    else:
        yield from search_blocks(view)
        yield from journal_blocks(view)
    yield from test_readings(view)
    yield from repetition(view)


def write_report(document: Document, folder: Path, kinds: Collection[Kind] = KINDS) -> list[Path]:
    """Write `report.html`, `report.md` and the figures into `folder`, each whole or not at all.

    Markdown shows the PNG files where there are such. Figures of an earlier report that this one
    does not write are removed. Returns the files.
    """
    figures = folder / FIGURES
    files = []
    for plot in document.plots:
        for kind in kinds:
            files.append(figures / f"{plot.name}.{kind}")
            draw = partial(drawn, plot.figure.to_dict(), plot.height)
            write_atomically(files[-1], rendered(draw, kind))
    for stale in {figures / f"{name}.{kind}" for name in NAMES for kind in KINDS} - set(files):
        stale.unlink(missing_ok=True)
    shown = "png" if "png" in kinds else "svg"
    for name, text in (
        ("report.html", as_html(document)),
        ("report.md", as_markdown(document, FIGURES, shown)),
    ):
        files.append(folder / name)
        write_atomically(files[-1], text.encode())
    return files
