from __future__ import annotations

import math
from dataclasses import replace
from statistics import stdev
from typing import Any

import plotly.graph_objects as go
import pytest

from search.analysis.findings import pareto_front
from search.figures import FIGURES
from search.figures.files import drawn
from search.figures.study import (
    MOST_ARMS,
    MOST_CURVES,
    MOST_SEEDS,
    TOP,
    best_so_far,
    learning_curves,
    loss_against_parameters,
    loss_by_arm,
)
from search.figures.style import BEST, COLOURS, MOST_POINTS
from search.store.views import StudyView
from tests.search.made_up_views import big_study, comparison_view, study_view, trial_view

ARMS = {"base": [0.5, 0.52, 0.48], "a": [0.4, 0.43, 0.41], "b": [0.55, 0.5, 0.6]}


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name.split(":")[0].split(" (")[0]: trace for trace in figure.data if trace.name}


def test_each_complete_trial_has_its_curve_and_its_best_epoch(small_study: StudyView) -> None:
    found = traces(learning_curves(small_study))
    for trial in small_study.leaderboard:
        if not trial.is_baseline:
            assert found[f"#{trial.number}"].line.color in COLOURS
    assert (found["#3"].x, found["#3"].y) == ((1, 2, 3), (0.6, 0.25, 0.28))
    assert found["#3"].name == "#3: 0.25"
    marks = set(zip(found["best epoch"].x, found["best epoch"].y, strict=True))
    assert marks == {(2, 0.25), (3, 0.3), (2, 0.44)}
    assert found["baseline"].line.dash == "dash"
    assert "failed" not in found  # its one trial has no finite loss
    # Rung 0 is drawn inside the first epoch.
    assert list(found["pruned"].x) == [0.33, 1, 2, None, 0.33, None]
    assert list(found["pruned"].y) == [1.5, 0.7, 0.6, None, 2.0, None]
    assert list(found["pruned"].customdata) == [2, 2, 2, None, 8, None]


def test_trials_stopped_late_are_told_apart_from_trials_stopped_early() -> None:
    half = study_view().spec.epochs // 2
    late = [trial_view(n, [0.5] * half, state=state) for n, state in ((1, "pruned"), (2, "paused"))]
    early = trial_view(3, [0.4] * (half - 1), state="pruned")
    figure = learning_curves(study_view([trial_view(0, [0.3]), *late, early]))
    names = {trace.name for trace in figure.data}
    assert {"#0: 0.3", "#1, pruned: 0.5", "#2, paused: 0.5", "pruned (1)"} <= names
    assert "coloured: the best 3" in figure.layout.title.subtitle.text


def test_a_long_study_is_thinned_and_the_axis_ends_at_the_loss_of_guessing() -> None:
    figure = learning_curves(big_study(1000, 12))
    pruned = traces(figure)["pruned"]
    assert pruned.name == f"pruned ({MOST_CURVES} of 750)"
    assert pruned.x.count(None) == MOST_CURVES
    assert sum(trace.name.startswith("#") for trace in figure.data) == TOP
    exploded = study_view([trial_view(0, [0.3]), trial_view(1, [1e9], state="pruned")])
    low, high = learning_curves(exploded).layout.yaxis.range
    assert 10**low < 0.3 < 10**high
    assert 10**high == pytest.approx(math.log(5) * 1.05)  # the loss of guessing


@pytest.mark.parametrize(
    ("objective", "lowest", "kind"),
    [
        ("validation_error", 0.0, "linear"),
        ("validation_error", 0.1, "linear"),
        ("validation_loss", 0.0, "linear"),
        ("validation_loss", 0.1, "log"),
    ],
)
def test_trials_without_a_mistake_are_drawn(objective: str, lowest: float, kind: str) -> None:
    def judged(view: StudyView) -> StudyView:
        return replace(view, spec=replace(view.spec, objective=objective))

    baseline = trial_view(0, [0.2, lowest], is_baseline=True)
    others = trial_view(1, [0.3, lowest]), trial_view(2, [5.0], state="pruned")
    search = judged(study_view([baseline, *others]))
    for name in ("history", "curves", "parameters", "slices"):
        axis = FIGURES[name].draw(search).layout.yaxis
        assert axis.type == kind, name
        low, high = (10**end for end in axis.range) if kind == "log" else axis.range
        assert low < lowest < 0.3 < high < 2, name
    star, level = named(best_so_far(search), "baseline")
    assert (star.y, level.y) == ((lowest,), (lowest, lowest))
    compared = judged(comparison_view({"base": [0.3, lowest], "other": [0.2, 0.3]}))
    assert loss_by_arm(compared).layout.xaxis.type == kind
    curves = learning_curves(compared)
    assert (curves.layout.yaxis.type, curves.layout.yaxis2.type) == ("log", kind)
    assert (curves.layout.yaxis2.matches is None) == (kind == "linear")
    first, second = drawn(curves).axes
    assert (first.get_yscale(), second.get_yscale()) == ("log", kind)


def test_pareto_front_matches_brute_force() -> None:
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
    sizes = [trial.parameters or 0 for trial in front]
    assert sizes == sorted(sizes)


def test_states_are_told_apart_by_colour_and_marker(small_study: StudyView) -> None:
    figure = loss_against_parameters(small_study)
    found = traces(figure)
    assert set(found) == {"complete", "pruned", "running", "baseline", "Pareto front"}
    markers = [found[name].marker for name in ("complete", "pruned", "running", "baseline")]
    assert len({marker.symbol for marker in markers}) == 4
    assert len({marker.color for marker in markers}) == 4
    assert found["pruned"].x == (90_000, 80_000)  # 8 with only rung 0
    assert found["pruned"].y == (0.6, 2.0)
    # The longer trained, the bluer.
    assert [int(colour[1:3], 16) for colour in found["pruned"].marker.color] == [0x6A, 0x7F]
    assert "lr 0.001" in found["complete"].customdata[0]
    assert "#9 (60 000 parameters, loss 0.4400)" in figure.layout.meta["caption"]


def test_in_a_long_study_the_best_are_drawn_and_others_thinned() -> None:
    view = big_study(1000, 12)
    (complete, *_) = loss_against_parameters(view).data
    assert complete.name == f"complete ({MOST_POINTS + BEST} of {view.count('complete') - 1})"
    best = [trial.best.value for trial in view.leaderboard[:BEST] if trial.best is not None]
    assert list(complete.y[:BEST]) == pytest.approx(best, abs=1e-4)


def test_best_so_far_counts_the_epochs_of_all_trials_in_the_order_of_their_reports() -> None:
    # Trial n reports once a second, starting n minutes after 9:00.
    trials = [
        trial_view(0, [0.5, 0.6], is_baseline=True),
        trial_view(1, early=0.9, state="paused"),
        trial_view(2, [0.55, 0.4], early=0.8),
        trial_view(3, [0.3, 0.35], state="pruned"),
        trial_view(4, early=0.2, state="running"),  # a partial epoch is not a finished one
        trial_view(5, state="failed", reason="diverged"),
    ]
    found = traces(best_so_far(study_view(trials)))
    line = found["lowest so far"]
    assert line.x == pytest.approx((1, 4.333, 5.333, 6.667), abs=1e-3)
    assert line.y == (0.5, 0.4, 0.3, 0.3)
    for name, x, y in (("paused", 2.333, 0.9), ("complete", 4.333, 0.4), ("pruned", 5.333, 0.3)):
        assert (found[name].x, found[name].y) == (pytest.approx((x,), abs=1e-3), (y,))
    assert found["running"].x == pytest.approx((6.667,), abs=1e-3)
    star, level = [trace for trace in best_so_far(study_view(trials)).data if "base" in trace.name]
    assert (star.x, star.y, level.y) == ((1,), (0.5,), (0.5, 0.5))


def test_a_resumed_trial_counts_on_from_where_it_paused() -> None:
    first, second = trial_view(0, [0.5, 0.4, 0.2]), trial_view(1, [0.3])
    later = [replace(row, reported_at=row.reported_at + 3600) for row in first.curve[2:]]
    first = replace(first, curve=(*first.curve[:2], *later))
    line = traces(best_so_far(study_view([first, second])))["lowest so far"]
    assert (line.x, line.y) == ((1, 2, 3, 4, 4), (0.5, 0.4, 0.3, 0.2, 0.2))


def named(figure: Any, start: str) -> list[Any]:
    return [trace for trace in figure.data if (trace.name or "").startswith(start)]


def test_each_seed_is_drawn_in_its_arms_row() -> None:
    arms = {"base": [0.5, 0.4, 0.6], "<b>b</b>": [0.3, None, 0.5], "lost": [None, None, None]}
    figure = loss_by_arm(comparison_view(arms))
    points, means = figure.data
    assert (points.y, points.x) == ((0, 0, 0, 1, 1), (0.5, 0.4, 0.6, 0.3, 0.5))
    assert (means.y, means.x) == ((0, 1), (0.5, 0.4))
    assert means.error_x.array == pytest.approx((0.1, stdev([0.3, 0.5])), rel=1e-3)
    labels = "base (3)", "&lt;b&gt;b&lt;/b&gt; (2 + 1 failed)", "lost (0 + 3 failed)"
    assert figure.layout.yaxis.ticktext == labels
    long: dict[str, Any] = {"base": [0.5] * 1000, "other": [0.4] * 1000}
    assert len(loss_by_arm(comparison_view(long)).data[0].x) <= MOST_SEEDS


def test_curves_of_arms_are_means_of_seeds() -> None:
    training, validation = named(learning_curves(comparison_view(ARMS)), "a (3)")
    assert list(validation.x) == [1, 2, 3]
    middle = sum(ARMS["a"]) / 3
    expected = [middle + 0.4, middle + 0.1, middle]
    assert list(validation.y) == pytest.approx(expected, abs=1e-3)
    assert list(training.y) == pytest.approx([0.9 * y for y in expected], abs=1e-3)


def test_only_a_limited_number_of_arms_is_drawn() -> None:
    arms = {f"arm {i:02}": [0.5 + i / 100, 0.5 + i / 90] for i in range(20)}
    arms["arm 00"] = [0.9, 0.9]  # the base stays, though it is the worst
    figure = learning_curves(comparison_view(arms))
    drawn = {trace.name for trace in named(figure, "arm")}
    assert drawn == {f"arm {i:02} (2)" for i in range(MOST_ARMS)}
    assert "8 arms not drawn" in figure.layout.title.subtitle.text
    few = dict([*arms.items()][: MOST_ARMS + 1])
    told = learning_curves(comparison_view(few)).layout.title.subtitle.text
    assert told.endswith("; 1 arm not drawn")
    view = comparison_view({"base": [0.5, 0.52]})
    short, long = view.trials
    object.__setattr__(short, "curve", short.curve[:2])  # a mean ends with the first that stopped
    assert [list(trace.x) for trace in named(learning_curves(view), "base (2)")] == [[1, 2]] * 2
    assert len(long.curve) == 3


def test_arms_whose_long_names_begin_alike_are_told_apart() -> None:
    names = [f"three convolutions, batch norm, dropout 0.{digit} of all" for digit in (2, 3)]
    view = comparison_view({name: [0.5, 0.52] for name in names})
    ticks = loss_by_arm(view).layout.yaxis.ticktext
    legend = [trace.name for trace in learning_curves(view).data if trace.showlegend]
    shown = [f"three convolutions, … dropout 0.{digit} of all (2)" for digit in (2, 3)]
    assert list(ticks) == legend == shown


def test_the_axis_of_lowest_values_begins_and_ends_with_them() -> None:
    """Curves begin at the loss of guessing, which would squeeze the points into a corner."""
    compared = comparison_view({"base": [0.11, 0.13], "a": [0.16, 0.17]})
    ends = [10**end for end in loss_by_arm(compared).layout.xaxis.range]
    bars = 0.12 - stdev([0.11, 0.13]), 0.165 + stdev([0.16, 0.17])
    assert ends == pytest.approx([0.95 * bars[0], 1.05 * bars[1]], abs=1e-3)
    # The bar of lucky and diverging seeds reaches below 0, which has no place on this axis.
    axis = loss_by_arm(comparison_view({"base": [0.1, 1.5]})).layout.xaxis
    assert axis.type == "log"
    assert 0.08 < 10 ** axis.range[0] < 0.1
    view = study_view([trial_view(n, [1.5, 0.3 + n / 100], early=1.6) for n in range(3)])
    for name in ("parameters", "slices"):
        ends = [10**end for end in FIGURES[name].draw(view).layout.yaxis.range]
        assert ends == pytest.approx([0.95 * 0.3, 1.05 * 0.32], abs=1e-3)


def test_a_line_of_a_single_point_is_a_point() -> None:
    def told(figure: go.Figure, name: str) -> set[tuple[str, str]]:
        lines = named(figure, name)
        return {(trace.mode, trace.marker.color or trace.line.color) for trace in lines}

    spec = replace(study_view().spec, epochs=2)
    view = study_view([trial_view(0, [0.5]), trial_view(1, [0.6, 0.5])])
    curves = learning_curves(replace(view, spec=spec))
    assert told(curves, "#0") == {("markers", COLOURS[0])}
    assert told(curves, "#1") == {("lines", COLOURS[1])}
    compared = comparison_view({"base": [0.5, 0.52], "a": [0.4, 0.43]})
    short = [replace(trial, curve=trial.curve[:1]) for trial in compared.trials]
    figure = learning_curves(replace(compared, trials=tuple(short)))
    assert told(figure, "a (2)") == {("markers", COLOURS[1])}
    assert {mode for mode, _ in told(figure, "one seed")} == {"markers"}
