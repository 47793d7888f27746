"""Names from users reach pages, notes, reports and terminals as text, whatever they contain."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from search.analysis.wording import printable
from search.figures import FIGURES
from search.figures.final import final_pictures
from search.pages.final_page import final_page, final_text
from search.pages.note import study_note
from search.pages.render import page
from search.pages.report import make_report
from search.spec.arms import Expectation, JournalEntry
from search.store.views import StudyView
from search.terminal.command_line import command
from search.terminal.commands import one_line
from search.terminal.summary import status_text
from tests.search.made_up_views import comparison_view, final_result, study_view, trial_view

PLAIN = "plain"
Elements = list[tuple[str, tuple[str, ...]]]
NOW = datetime(2026, 3, 5, 8, 0, tzinfo=UTC)


class Structure(HTMLParser):
    """The elements of a page with their attribute names, in order, without any text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: Elements = []
        self.feed(re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", ()))


def structure(markdown: str) -> Elements:
    """The structure as rendered with raw HTML let through, as in the dashboard."""
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    return Structure(html).found


@pytest.fixture
def names(hostile_names: tuple[str, ...]) -> list[str]:
    """The names that a study file or a folder can hold; pages leave out empty ones."""
    return [name for name in hostile_names if name and "\ud800" not in name]


def called(name: str) -> list[StudyView]:
    """A search and a comparison in which everything named by the user has this name."""
    printable = "".join(sign if sign.isprintable() else "?" for sign in name)
    line = printable[:150].strip() or "?"
    other = f"{line} other"
    expect = (
        Expectation(arm=other, than=line, metric="validation_loss", outcome="better"),
        Expectation(arm=f"{line} lost", than=line, metric="train_loss", outcome="worse"),
    )
    entry = JournalEntry(objective=line, hypothesis=line, methodology=line, expect=expect)
    classes = (name, f"{name} ", "Pullover", "Dress", "Coat")
    titles = {"title": printable, "data_title": name, "class_names": classes}
    arms = {line: [0.5, 0.6], other: [0.41, 0.5], f"{line} lost": [None, None]}
    reported = {line: {"validation_loss": 0.3}}
    trials = [
        trial_view(0, [0.5, 0.4], is_baseline=True),
        trial_view(1, [0.4, 0.25, 0.26]),
        trial_view(2, state="failed", parameters=None, reason=name),
    ]
    views = (
        study_view(trials, **titles),
        comparison_view(arms, journal=[entry], reported=reported, reason=name, **titles),
    )
    storage = "sqlite:///a```\n<script>x</script>.db"
    more = {"hardware": name, "versions": {"torch": name}, "storage": storage}
    return [replace(view, spec=replace(view.spec, source=line), **more) for view in views]


def test_notes_and_reports_have_the_same_structure_under_any_name(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for figure in [*FIGURES][::-1]:  # they take time; pytest restores the last one first
        monkeypatch.delitem(FIGURES, figure)

    def structures(name: str) -> list[Elements]:
        views = called(name)
        texts = [study_note(view) for view in views]
        texts += [make_report(view, NOW).markdown for view in views]
        outside = [re.sub(r"^(`{3,}).*?^\1$", "```", t, flags=re.S | re.M) for t in texts]
        for text in outside:
            assert not re.search(r"<(?!/?details>|/?summary>)", text), name[:100]
            assert "](" not in text, name[:100]
        return [*map(structure, texts), *map(structure, outside)]

    expected = structures(PLAIN)
    for name in names:
        assert structures(name) == expected, name[:100]


def test_pages_have_the_same_structure_under_any_name(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.pages.render.get_plotlyjs", lambda: "")  # 4.5 MB of a page

    def written(name: str) -> str:
        final = final_result(view=called(name)[0], kernels=None)
        text = final_page(final, final_pictures(final))
        return re.sub(r"<script(?! type).*?</script>", "", text, flags=re.DOTALL)

    expected = Structure(written(PLAIN)).found
    for name in names:
        text = written(name)
        assert Structure(text).found == expected, name[:100]
        # Plotly interprets HTML in figures: there, too, a name is only text.
        assert "\\u003cimg" not in text
        assert "\\u003cscript" not in text
        assert Structure(page(name, "words", {})).found == Structure(page("a", "words", {})).found


def test_terminals_get_no_control_characters(names: list[str]) -> None:
    for name in names:
        view, _ = called(name)
        named = replace(view, name=name)  # Optuna takes any text
        texts = [status_text(view), final_text(final_result(view=view, kernels=None))]
        texts += [status_text(named), command("study", name, view.storage)]
        for text in texts:
            bad = [sign for sign in text if sign != "\n" and not sign.isprintable()]
            assert not bad, (name[:100], bad)
        for shown in (printable(name), one_line(name)):
            assert shown.isprintable(), name[:100]
