"""Names that people type reach pages, notes and terminals as text, whatever they hold."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from search.analysis.wording import printable
from search.pages.final_page import final_page, final_text
from search.pages.note import study_note
from search.pages.page import facts, footer, heading, listing, page, paragraph, table
from search.store.views import StudyView
from search.terminal.commands import one_line
from search.terminal.summary import final_summary

Make = Callable[..., Any]
PLAIN = "plain"


class Structure(HTMLParser):
    """The elements of a page with their attributes' names, in order, without any text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", ()))


@pytest.fixture
def names(hostile_names: tuple[str, ...]) -> list[str]:
    """Those that a study file or a folder can hold at all: text."""
    return [name for name in hostile_names if "\ud800" not in name]


@pytest.fixture
def study_called(make_view: Make, make_trial: Make) -> Callable[[str], StudyView]:
    """A study in which everything that people name is called so."""

    def make(name: str) -> StudyView:
        trials = [
            make_trial(0, [0.5, 0.4], is_baseline=True),
            make_trial(1, [0.4, 0.25, 0.26]),
            make_trial(2, state="failed", parameters=None, reason=name),
        ]
        classes = (name, f"{name} ", "Pullover", "Dress", "Coat")
        view: StudyView = make_view(trials, title=name, data_title=name, class_names=classes)
        return dataclasses.replace(view, hardware=name, versions={"torch": name})

    return make


def test_every_part_of_a_page_keeps_them_as_text(names: list[str]) -> None:
    def everything(name: str) -> str:
        parts = [heading(name), paragraph(name), listing(name), facts([(name, name)])]
        return page(name, [*parts, table([name], [[name]], caption=name), footer(name)])

    expected = Structure(everything(PLAIN)).found
    for name in filter(None, names):  # a page leaves an empty caption out
        assert Structure(everything(name)).found == expected, name[:100]


def test_the_final_report_has_the_same_structure_under_any_name(
    names: list[str], study_called: Callable[[str], StudyView], make_final: Make
) -> None:
    def written(name: str) -> str:
        return final_page(make_final(view=study_called(name), kernels=None))

    def without_figures(text: str) -> str:
        text = re.sub(r"<script(?! class=\"figure\").*?</script>", "", text, flags=re.DOTALL)
        return re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)

    expected = Structure(without_figures(written(PLAIN))).found
    for name in names:
        assert Structure(without_figures(written(name))).found == expected, name[:100]


def test_terminals_get_lines_without_control(
    names: list[str], study_called: Callable[[str], StudyView], make_final: Make
) -> None:
    for name in names:
        view = study_called(name)
        for text in (final_summary(view), final_text(make_final(view=view, kernels=None))):
            bad = [sign for sign in text if sign != "\n" and not sign.isprintable()]
            assert not bad, (name[:100], bad)
        for shown in (printable(name), one_line(name)):
            assert shown.isprintable(), name[:100]


def test_the_note_has_the_same_structure_under_any_name(
    names: list[str], study_called: Callable[[str], StudyView]
) -> None:
    def outside_code(name: str) -> str:
        """The note without its listings, in which everything is text."""
        note, listings = re.subn(
            r"^```.*?^```$", "```", study_note(study_called(name)), flags=re.DOTALL | re.MULTILINE
        )
        assert listings
        return note

    def structure(note: str) -> list[tuple[str, int]]:
        """Of each line what begins it, and its cells."""
        return [
            (re.sub(r"[^#|`-].*", "", line), line.count("|")) for line in note.splitlines() if line
        ]

    expected = structure(outside_code(PLAIN))
    for name in filter(None, names):  # a note leaves out what is empty
        note = outside_code(name)
        assert structure(note) == expected, name[:100]
        assert "<script" not in note
        assert "<img" not in note
        assert "](" not in note
