from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
import pytest

from search.figures.figures_study import (
    TOP,
    best_so_far,
    loss_against_parameters,
    pareto_front,
    time_by_outcome,
)
from search.store.views import StudyView

FIGURES = (best_so_far, loss_against_parameters, time_by_outcome)
BigStudy = Callable[[int, int], StudyView]
MakeTrial = Callable[..., Any]
MakeView = Callable[..., StudyView]


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name.split(" (")[0]: trace for trace in figure.data if trace.name}


@pytest.mark.parametrize("make", FIGURES)
def test_any_study_gives_strict_json_of_bounded_size(
    make: Callable[[StudyView], go.Figure],
    small_study: StudyView,
    big_study: BigStudy,
    make_view: MakeView,
    make_trial: MakeTrial,
) -> None:
    failed_only = make_view([make_trial(0, state="failed"), make_trial(1, state="waiting")])
    for view in (make_view(), failed_only, small_study, big_study(50, 12), big_study(1000, 12)):
        text = make(view).to_json()
        json.loads(text, parse_constant=pytest.fail)
        assert len(text) < 40_000
        assert "Fashion-MNIST, 50 000 training and 10 000 validation images" in text


def test_pareto_front_is_what_brute_force_finds(big_study: BigStudy) -> None:
    view = big_study(400, 12)
    sized = [
        (trial.parameters, trial.best.validation_loss, trial.number)
        for trial in view.leaderboard
        if trial.parameters is not None and trial.best is not None
    ]
    expected = {
        number
        for size, loss, number in sized
        if not any(a <= size and b <= loss and (a < size or b < loss) for a, b, _ in sized)
    }
    front = pareto_front(view)
    assert {trial.number for trial in front} == expected
    assert len(front) > 2
    sizes = [trial.parameters for trial in front]
    assert sizes == sorted(sizes)  # type: ignore[type-var]


def test_states_are_told_apart_by_colour_and_marker(small_study: StudyView) -> None:
    found = traces(loss_against_parameters(small_study))
    assert set(found) == {"complete", "pruned", "running", "baseline", "Pareto front"}
    looks = {
        (found[n].marker.color, found[n].marker.symbol) for n in found if found[n].marker.color
    }
    assert len({symbol for _, symbol in looks}) == len({colour for colour, _ in looks}) == 4
    assert found["pruned"].x == (90_000, 80_000)  # 8 with nothing but its early look
    assert found["pruned"].y == (0.6, 2.0)
    assert "lr 0.001" in found["complete"].text[0]


def test_the_best_and_the_front_are_drawn_however_long_the_study(big_study: BigStudy) -> None:
    view = big_study(1000, 12)
    drawn = set(traces(loss_against_parameters(view))["complete"].x)
    notable = [*pareto_front(view), *view.leaderboard[:TOP]]
    assert {trial.parameters for trial in notable if not trial.is_baseline} <= drawn


def test_best_so_far_follows_the_order_in_which_trials_ended(
    make_view: MakeView, make_trial: MakeTrial
) -> None:
    # Trial n starts n minutes and ends n + 2 minutes after 9:00.
    view = make_view(
        [
            make_trial(0, [0.5], is_baseline=True),
            make_trial(1, [0.1], state="pruned"),
            make_trial(2, [0.6]),
            make_trial(3, [0.3]),
            make_trial(4, [0.4], state="running"),
            make_trial(5, [0.35], state="pruned"),
        ]
    )
    by_count, by_minutes = (
        trace for trace in best_so_far(view).data if trace.name == "best so far"
    )
    assert by_count.y == by_minutes.y == (0.5, 0.3, 0.3)
    assert by_count.x == (1, 4, 5)
    assert by_minutes.x == (2, 5, 7)
    assert traces(best_so_far(view))["baseline"].y == (0.5, 0.5)


def test_time_is_added_up_by_outcome(small_study: StudyView) -> None:
    bar = time_by_outcome(small_study).data[0]
    spent = dict(zip(bar.y, bar.x, strict=True))
    # Ten seconds a report, early looks among them.
    assert spent == {
        "complete (4)": pytest.approx(12 * 10 / 60, rel=1e-3),
        "pruned (2)": pytest.approx(4 * 10 / 60, rel=1e-3),
        "running (1)": pytest.approx(10 / 60, rel=1e-3),
        "failed (2)": pytest.approx(3 * 10 / 60, rel=1e-3),
    }
    assert bar.text[0] == "2 min, 60 %"
