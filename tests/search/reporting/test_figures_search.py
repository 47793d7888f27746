from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.reporting.figures_search import importances_bars, parallel_coordinates
from search.reporting.importances import importances, needed, usable
from search.reporting.search_axes import SearchAxis, search_axes
from search.trials.config import StudySpec
from search.trials.domains import Choice, Fixed, Range
from search.trials.stored_params import distributions
from search.trials.view import StudyView

Make = Callable[..., Any]
SPEC = StudySpec(
    dataset="fashion_mnist",
    space={
        "learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "depth": Range(low=2, high=4),
        "hidden": Choice(values=((64,), (128,), (120, 84))),
        "batch_norm": Fixed(value=True),
    },
)


@pytest.fixture
def searched(make_view: Make, make_trial: Make) -> Callable[[int], StudyView]:
    """Trials whose loss depends on the learning rate alone, by a factor of ten."""

    def make(trials: int) -> StudyView:
        rng = np.random.default_rng(0)
        made = []
        for number in range(trials):
            place = float(rng.uniform())
            params = {
                "learning_rate": 10 ** (-4 + 2 * place),
                "depth": int(rng.integers(2, 5)),
                "hidden": str(rng.choice(["64", "128", "120 84"])),
            }
            made.append(make_trial(number, [2.0, 0.2 + 1.8 * place], params=params))
        return dataclasses.replace(make_view(made), spec=SPEC)

    return make


def test_the_parameter_that_decides_is_found(searched: Callable[[int], StudyView]) -> None:
    found = importances(searched(30))
    assert found is not None
    assert next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.8
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.complete == 30
    assert found.spread.keys() == found.shares.keys() == distributions(SPEC).keys()
    assert importances(searched(30)) == found  # the same each time
    figure = importances_bars(searched(30), found)
    assert figure.data[0].y[0] == "learning_rate"
    assert "30 complete" in figure.layout.title.subtitle.text


def test_too_few_trials_have_no_importances(
    searched: Callable[[int], StudyView], make_trial: Make
) -> None:
    view = searched(11)
    assert needed(view) == 12
    assert importances(view) is None
    # What was stopped early, or trained with other values than it was drawn with, does not count.
    params = {"learning_rate": 1e-3, "depth": 2, "hidden": "64"}
    pruned = make_trial(11, [0.5], state="pruned", params=params)
    baseline = make_trial(12, [0.5], is_baseline=True, params=params)
    odd = make_trial(13, [0.5], params={"depth": 2})
    more = dataclasses.replace(view, trials=(*view.trials, pruned, baseline, odd))
    assert len(usable(more)) == 11
    assert importances(more) is None


def test_equal_losses_have_none(make_view: Make, make_trial: Make) -> None:
    params = {"learning_rate": 1e-3, "depth": 2, "hidden": "64"}
    trials = [make_trial(n, [0.5], params=params) for n in range(20)]
    assert importances(dataclasses.replace(make_view(trials), spec=SPEC)) is None


def test_a_huge_loss_counts_as_guessing(searched: Callable[[int], StudyView]) -> None:
    view = searched(12)
    assert all((trial.value or 0) <= math.log(5) for trial in usable(view))


def test_axes_are_what_is_searched() -> None:
    rate, depth, hidden = search_axes(SPEC)
    assert [axis.name for axis in (rate, depth, hidden)] == ["learning_rate", "depth", "hidden"]
    assert rate.place(1e-3) == pytest.approx(0.5)
    assert [depth.place(value) for value in (2, 3, 4)] == [0, 0.5, 1]
    assert hidden.labels == ("64", "128", "120 84")
    assert [hidden.place(label) for label in hidden.labels] == [0, 0.5, 1]
    assert (rate.place(1), rate.place(1e-9), hidden.place("other")) == (1, 0, 0)
    assert rate.ticks() == [(0, "1e-4"), (pytest.approx(0.5), "0.001"), (1, "0.01")]
    assert SearchAxis(name="x", low=1, high=1).place(1) == 0


def test_a_line_for_each_trial(searched: Callable[[int], StudyView]) -> None:
    view = searched(10)
    figure = parallel_coordinates(view)
    rest, best = figure.data
    assert (rest.name, best.name) == ("complete (8)", "best (2)")
    values = [t.params["learning_rate"] for t in view.leaderboard[:2]]
    rate = search_axes(SPEC)[0]
    assert [y for y, x in zip(best.y, best.x, strict=True) if x == 0] == pytest.approx(
        [rate.place(value) for value in values], abs=1e-3
    )
    losses = [y for y, x in zip(best.y, best.x, strict=True) if x == 3]
    assert losses[0] == 0
    assert list(best.x) == [0, 1, 2, 3, None] * 2
    assert list(figure.layout.xaxis.ticktext)[-1] == "validation<br>loss"


def test_nothing_searched_or_finished_is_said(make_view: Make) -> None:
    figure = parallel_coordinates(make_view())
    assert figure.layout.annotations[-1].text.startswith("no trial with searched parameters")


def test_no_figure_of_plotly_that_compiles_code(searched: Callable[[int], StudyView]) -> None:
    """The page's policy forbids `eval`, which plotly's own parallel coordinates and WebGL need."""
    kinds = {trace.type for trace in parallel_coordinates(searched(10)).data}
    assert kinds == {"scatter"}
