"""Published figures stand beside ours only with a word on what was done differently."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from search.analysis.comparison import runs_by_arm
from search.pages.document import Paragraph, Table
from search.pages.report_published import DIFFERENCE, published_blocks, published_setup
from search.running.request import read_request
from search.spec.config import StudySpec
from search.spec.study_file import StudyFileError, find_study_file, read_study_file
from search.store.views import StudyView
from search.terminal.reproduce import study_file

Make = Callable[..., Any]
THEIRS = {"epochs": 3, "repeats": 2}


def shown(view: StudyView) -> tuple[str, Table]:
    """All warnings as one text, and the table."""
    blocks = list(published_blocks(view, runs_by_arm(view)))
    (table,) = (block for block in blocks if isinstance(block, Table))
    return " ".join(block.text for block in blocks if isinstance(block, Paragraph)), table


@pytest.fixture
def compared(make_comparison: Make) -> Callable[..., StudyView]:
    def make(published: Mapping[str, int], **changes: Any) -> StudyView:
        view: StudyView = make_comparison(
            {"base": [0.5, 0.52], "low": [0.4, 0.42]},
            reported={"base": {"validation_loss": 0.45}, "low": {"validation_accuracy": 0.9}},
        )
        return dataclasses.replace(
            view, spec=dataclasses.replace(view.spec, published=published, **changes)
        )

    return make


def test_the_same_setup_is_compared_without_a_warning(compared: Callable[..., StudyView]) -> None:
    warnings, table = shown(compared(THEIRS))
    assert not warnings
    assert DIFFERENCE in table.header
    assert {len(row) for row in table.rows} == {len(table.header)}
    # A limit that leaves nothing out, and more seeds than theirs, are no difference.
    assert not shown(compared({**THEIRS, "repeats": 1}, limit=50_000))[0]


@pytest.mark.parametrize(
    ("published", "changes", "says"),
    [
        ({**THEIRS, "epochs": 100}, {}, "trained for at most 3 epochs, not 100"),
        (THEIRS, {"limit": 4000}, "trained on 4 000 images, not 50 000"),
        ({**THEIRS, "limit": 800}, {"limit": 4000}, "trained on 4 000 images, not 800"),
    ],
)
def test_another_setup_is_named_and_no_difference_is_drawn(
    compared: Callable[..., StudyView],
    published: dict[str, int],
    changes: dict[str, Any],
    says: str,
) -> None:
    warnings, table = shown(compared(published, **changes))
    assert says in warnings
    assert "do not repeat the published experiment" in warnings
    assert DIFFERENCE not in table.header
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_fewer_seeds_are_said_to_be_less_certain(compared: Callable[..., StudyView]) -> None:
    warnings, table = shown(compared({**THEIRS, "repeats": 3}))
    assert warnings == "2 seeds an arm, not 3: our means are less certain."
    assert DIFFERENCE in table.header


def test_flags_are_told_from_what_the_file_says() -> None:
    wish = read_request("a4_dropout", {"epochs": 4, "limit": 3000, "repeats": 1})
    spec = wish.spec("fashion_mnist")
    assert (spec.epochs, spec.limit, spec.repeats) == (4, 3000, 1)
    assert spec.published == {"epochs": 100, "repeats": 3}
    assert StudySpec.from_dict(spec.to_dict()) == spec
    assert not read_request("a4_dropout", {}).spec("digits").published  # nor any figure


def test_again_toml_remembers_the_published_setup(tmp_path: Any) -> None:
    spec = read_request("a4_dropout", {"epochs": 4, "limit": 3000}).spec("fashion_mnist")
    file = tmp_path / "again.toml"
    file.write_text(study_file(spec))
    assert StudySpec(**read_study_file(file)) == spec


def test_a_study_of_before_is_known_by_its_figures() -> None:
    fields = read_study_file(find_study_file("a4_dropout"))
    stored = StudySpec(**{**fields, "epochs": 4}).to_dict()
    del stored["published"]
    old = StudySpec.from_dict(stored)
    assert not old.published
    assert published_setup(old) == {"epochs": 100, "repeats": 3}
    other = dataclasses.replace(old.arms[0], reported={"validation_loss": 0.1})
    assert published_setup(dataclasses.replace(old, arms=(other, *old.arms[1:]))) == {}


@pytest.mark.parametrize("line", ["seed = 3", "epochs = 0", 'epochs = "4"'])
def test_a_wrong_key_is_refused(tmp_path: Any, line: str) -> None:
    text = find_study_file("a4_dropout").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(f"{text}\n[published]\n{line}\n")
    with pytest.raises(StudyFileError, match=r"mine\.toml:\d+: "):
        read_study_file(file)
