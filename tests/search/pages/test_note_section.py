"""Ours and theirs in one note: what a person wrote is never touched."""

from __future__ import annotations

import dataclasses
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna_dashboard import get_note

from search.pages.note import study_note
from search.pages.note_section import BEGIN, END, placed
from search.store.views import StudyView

FIXTURE = Path(__file__).parents[2] / "fixtures" / "made_by_3bc7fe6.tar.xz"
OURS = "# Study\n\n## Best trials\n\nnone\n"
SECTION = f"{BEGIN}\n\n{OURS.rstrip()}\n\n{END}\n"


@pytest.mark.parametrize(
    ("there", "becomes"),
    [
        ("", SECTION),
        (" \n", SECTION),
        ("mine", f"mine\n\n{SECTION}"),
        ("# mine\n\n## Best trials\n", f"# mine\n\n## Best trials\n\n{SECTION}"),
        (f"above\n{BEGIN}\nold\n{END}\nbelow\n", f"above\n{SECTION}below\n"),
        (f"above\n{BEGIN}\nold\n{END}", f"above\n{SECTION}"),
        (f"{BEGIN}\r\nold\r\n{END}\r\nbelow", f"{SECTION}below"),
        ("<!-- cnn-search: begin -->\nold\n<!-- cnn-search: end --> \nbelow", f"{SECTION}below"),
        # Half a section is a person's: nothing is taken away from it.
        (f"above\n{BEGIN}\nmine", f"above\n{BEGIN}\nmine\n\n{SECTION}"),
        (f"{BEGIN}\nmine\n{BEGIN}\nold\n{END}\n", f"{BEGIN}\nmine\n{SECTION}"),
        (f"mine\n{END}\n", f"mine\n{END}\n\n{SECTION}"),
        (f"I like `{BEGIN}` and {END}", f"I like `{BEGIN}` and {END}\n\n{SECTION}"),
    ],
)
def test_ours_takes_its_own_place(there: str, becomes: str) -> None:
    assert placed(OURS, there) == becomes


@given(above=st.text(), below=st.text(), first=st.text(), second=st.text())
def test_what_stands_around_stays_to_the_letter(
    above: str, below: str, first: str, second: str
) -> None:
    once = placed(first, "")
    whole = f"{above}\n{once}{below}"
    assert placed(second, whole) == f"{above}\n{placed(second, '')}{below}"


@pytest.mark.parametrize(
    "line", [f"{BEGIN}\n", f"{END}\n", "# a\n\n1 trials finished**\n", "# a\n\n"]
)
def test_a_long_note_costs_no_time(line: str) -> None:
    whole = line * (200_000 // len(line))
    began = time.perf_counter()
    placed(OURS, whole)
    assert time.perf_counter() - began < 5


def test_marks_in_a_title_end_nothing(titled: Callable[[str], StudyView]) -> None:
    note = study_note(titled(f"a {BEGIN} {END} b"))
    whole = f"above\n{placed(note, '')}below\n"
    for _ in range(2):
        assert placed(note, whole) == whole


@pytest.fixture
def titled(small_study: StudyView) -> Callable[[str], StudyView]:
    return lambda title: dataclasses.replace(
        small_study, spec=dataclasses.replace(small_study.spec, title=title)
    )


def test_notes_of_the_version_without_marks_are_recognised(tmp_path: Path) -> None:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    [database] = tmp_path.rglob("studies.db")
    names = optuna.get_all_study_names(f"sqlite:///{database}")
    assert len(names) == 4
    for name in names:
        note = get_note(optuna.load_study(study_name=name, storage=f"sqlite:///{database}"))
        assert "trials finished" in note
        assert placed(OURS, note) == SECTION
        assert placed(OURS, f"above\n\n{note}\nbelow") == f"above\n\n{SECTION}\nbelow"
