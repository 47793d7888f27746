from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from models import ConvNetConfig
from search.figures.figures_choices import (
    SPREAD,
    chosen_kinds,
    error_against_dropout,
    kinds_side_by_side,
    searches_dropout,
)
from search.spec.config import TrialConfig
from search.spec.domains import Choice, Fixed, Range
from search.spec.recipe import Recipe
from search.store.views import StudyView

MakeTrial = Callable[..., Any]
MakeView = Callable[..., StudyView]
Searching = Callable[[StudyView], StudyView]

KINDS = ("none", "l2", "decoupled")
POLICIES = ("none", "flip-crop")


@pytest.fixture
def searching() -> Searching:
    """The view of a study that searches kinds and dropout."""

    def replaced(view: StudyView) -> StudyView:
        space = {
            **view.spec.space,
            "weight_decay_kind": Choice(values=KINDS),
            "augmentation": Choice(values=POLICIES),
            "dropout": Range(low=0.0, high=0.5),
        }
        return dataclasses.replace(view, spec=dataclasses.replace(view.spec, space=space))

    return replaced


def config(kind: Any, policy: str = "none", dropout: float = 0.0) -> TrialConfig:
    return TrialConfig(
        architecture=ConvNetConfig(channels=(8,), dropout_linear=dropout),
        recipe=Recipe(
            epochs=12, weight_decay_kind=kind, weight_decay=0.1, augmentation=policy
        ),
    )  # fmt: skip


def named(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if (trace.name or "").startswith(name)]


def test_each_trial_stands_with_its_kind(
    make_view: MakeView, make_trial: MakeTrial, searching: Searching
) -> None:
    view = searching(
        make_view(
            [
                make_trial(0, [0.9], is_baseline=True, config=config("none")),
                make_trial(1, [0.5], config=config("l2")),
                make_trial(2, [0.4], config=config("l2", "flip-crop")),
                make_trial(3, [0.3], config=config("decoupled", "flip-crop")),
                make_trial(4, [0.2, 0.7], config=config("l2")),
                make_trial(5, [0.8], state="pruned", config=config("none")),
                make_trial(6, state="pruned", early=1.5, config=config("l2")),
                make_trial(7, [0.1], state="running", config=config("none")),
            ]
        )
    )
    figure = kinds_side_by_side(view)
    by_decay, by_policy = named(figure, "complete")
    # Of kinds 1, 1, 2, 1; the baseline, whose kind nobody chose, is not among them.
    assert [round(y) for y in by_decay.y] == [1, 1, 2, 1]
    assert list(by_decay.x) == [0.5, 0.4, 0.3, 0.2]
    assert [round(y) for y in by_policy.y] == [0, 1, 1, 0]
    assert all(abs(y - round(y)) <= SPREAD for y in (*by_decay.y, *by_policy.y))
    pruned, _ = named(figure, "pruned")
    assert [round(y) for y in pruned.y] == [0, 1]
    assert (pruned.marker.symbol, pruned.marker.color) != (
        by_decay.marker.symbol,
        by_decay.marker.color,
    )
    bars, _ = named(figure, "median")
    assert dict(zip(bars.y[::3], bars.x[::3], strict=True)) == {
        0.6: median([0.5, 0.4, 0.2]),
        1.6: 0.3,
    }
    assert figure.layout.yaxis.ticktext == ("none (0 + 1)", "l2 (3 + 1)", "decoupled (1 + 0)")


def test_error_against_dropout(
    make_view: MakeView, make_trial: MakeTrial, searching: Searching
) -> None:
    view = searching(
        make_view(
            [
                make_trial(0, [0.9], is_baseline=True, config=config("none", dropout=0.5)),
                make_trial(1, [0.3, 0.6], config=config("none", dropout=0.25)),
                make_trial(2, [0.6], state="pruned", config=config("none", dropout=0.1)),
                make_trial(3, [0.0], config=config("none", dropout=0.1)),  # no place on a log axis
            ]
        )
    )
    figure = error_against_dropout(view)
    found = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert found["complete (2)"] == ([0.25], [10.0])  # of the epoch with the lowest loss
    assert found["pruned (1)"] == ([0.1], [20.0])
    assert found["baseline"] == ([0.5], [30.0])


@pytest.mark.parametrize("draw", [kinds_side_by_side, error_against_dropout])
def test_any_study_gives_strict_json_of_bounded_size(
    draw: Callable[[StudyView], Any],
    small_study: StudyView,
    big_study: Callable[[int, int], StudyView],
    make_view: MakeView,
    searching: Searching,
) -> None:
    for view in (make_view(), small_study, big_study(1000, 12)):
        text = draw(searching(view)).to_json()
        json.loads(text, parse_constant=pytest.fail)
        assert len(text) < 40_000


def test_what_is_searched_is_told_by_the_space(make_view: MakeView, searching: Searching) -> None:
    plain, chosen = make_view().spec, searching(make_view()).spec
    assert chosen_kinds(plain) == []
    assert chosen_kinds(chosen) == ["weight_decay_kind", "augmentation"]
    assert not searches_dropout(plain)
    assert searches_dropout(chosen)
    fixed = dataclasses.replace(plain, space={"dropout": Fixed(value=0.3)})
    assert not searches_dropout(fixed)
