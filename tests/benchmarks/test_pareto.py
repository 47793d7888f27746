"""Searches for a Pareto front replayed on made-up records."""

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pareto import FrontPoint, Problem, at, others, ours, until
from benchmarks.replay_worlds import Pool, read_runs
from search.spec.space import distributions
from tests.benchmarks.test_replay import EPOCHS, record


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    """Only recorded configurations, because a surrogate takes seconds to fit."""
    file = tmp_path / "digits.jsonl.gz"
    record(file)
    made: Any = Problem.__new__(Problem)
    made.world = Pool(read_runs(file))
    made.spec, made.space = made.world.spec, distributions(made.world.spec)
    made._shape, made.largest, made.worst, made._whole = (1, 8, 8), 10.0, 0.0, 4.0
    problem: Problem = made
    return problem


def test_the_hypervolume_of_a_searchs_front(problem: Problem) -> None:
    small, large = FrontPoint(6.0, -1.0, -1.0), FrontPoint(8.0, -2.0, -1.5)
    assert problem.hypervolume([small]) == 1.0 * 4.0 / 4.0
    assert problem.hypervolume([large, small]) == (1.0 * 4.0 + 0.5 * 2.0) / 4.0
    hidden = FrontPoint(7.0, -0.9, -9.0)  # worse on validation: no search would show it
    assert problem.hypervolume([large, small, hidden]) == problem.hypervolume([large, small])
    found = [(10.0, 0.2), (20.0, 0.5)]
    assert [at(found, epochs) for epochs in (5.0, 10.0, 30.0)] == [0.0, 0.2, 0.5]
    assert [until(found, volume) for volume in (0.1, 0.5, 0.6)] == [10.0, 20.0, math.inf]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_ours_spends_its_budget_and_others_train_to_the_end(problem: Problem) -> None:
    found = list(ours(problem, 0, "tpe", trials=8, budget=0.5, prior=None))
    assert 2 <= len(found) < 8
    spent = [epochs for epochs, _ in found]
    assert spent == sorted(spent)
    assert spent[-1] <= 0.5 * 8 * EPOCHS + EPOCHS
    runs = problem.world.runs  # type: ignore[attr-defined]
    sizes = {round(math.log(problem.size(run.params)), 6) for run in runs}
    assert {round(point.size, 6) for _, point in found} <= sizes
    whole = [epochs for epochs, _ in others(problem, 0, "nsga2", trials=3)]
    assert whole == [EPOCHS, 2 * EPOCHS, 3 * EPOCHS]
