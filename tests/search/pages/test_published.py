"""Published figures stand beside ours only with a word on what was done differently."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from search.analysis.comparison import runs_by_arm
from search.pages.published import published_values
from search.pages.report import make_report
from search.running.request import read_request
from search.spec.config import StudySpec
from search.store.views import StudyView

Make = Callable[..., Any]
THEIRS = {"epochs": 3, "repeats": 2}


def shown(view: StudyView) -> dict[str, Any]:
    return published_values(view, runs_by_arm(view))


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
    found = shown(compared(THEIRS))
    assert not found["changed"]
    assert not found["fewer"]
    assert {len(row) for row in found["rows"]} == {5}
    # A limit that leaves nothing out, and more seeds than theirs, are no difference.
    assert not shown(compared({**THEIRS, "repeats": 1}, limit=50_000))["changed"]


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
    view = compared(published, **changes)
    assert says in shown(view)["changed"]
    text = make_report(view, datetime(2026, 3, 5, tzinfo=UTC)).markdown
    assert "do not repeat the published experiment" in text
    assert "ours − reported" not in text
    assert {len(row) for row in shown(view)["rows"]} == {4}


def test_fewer_seeds_are_said_to_be_less_certain(compared: Callable[..., StudyView]) -> None:
    found = shown(compared({**THEIRS, "repeats": 3}))
    assert found["fewer"] == "2 seeds an arm, not 3"
    assert not found["changed"]


def test_flags_are_told_from_what_the_file_says() -> None:
    wish = read_request("a4_dropout", {"epochs": 4, "limit": 3000, "repeats": 1})
    spec = wish.spec("fashion_mnist")
    assert (spec.epochs, spec.limit, spec.repeats) == (4, 3000, 1)
    assert spec.published == {"epochs": 100, "repeats": 3}
    assert StudySpec.from_dict(spec.to_dict()) == spec
    assert not read_request("a4_dropout", {}).spec("digits").published  # nor any figure
