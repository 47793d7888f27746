"""Which trial trains next, on hand-made curves."""

import math
from dataclasses import replace

import numpy as np

from search.sampling.forecast import MOST, Contender, informative
from search.sampling.promotion import (
    NEW,
    Front,
    choose,
    expected_improvement,
    remaining_cost,
)
from search.store.claims import Choice
from search.store.views import State


def trial(number: int, *losses: float, state: State = "paused") -> Contender:
    """Reports after the partial epoch (0) and epochs 1, 2, ..."""
    curve, params = dict(enumerate(losses)), {"depth": 2 + number % 2}
    return Contender(number=number, state=state, params=params, recorded=params, curve=curve)


def chosen(*trials: Contender, total: int = 50, budget: float = 100.0) -> Choice:
    return choose(trials, trials=total, epochs=8, budget=budget, prior=None)


def test_the_budget_is_spent_in_step_with_the_trials() -> None:
    assert chosen() == NEW
    assert chosen(trial(0, 1.0), trial(1, 0.9), trial(2, 1.1)) == NEW
    four = [trial(0, 1.0), trial(1, 0.5), trial(2, 1.1), trial(3, 0.9)]
    assert chosen(*four) == 1  # four of 50 trials have begun, and less of the budget is spent
    assert chosen(*four, budget=16.0) == NEW  # more of it is
    assert chosen(*(replace(one, state="running") for one in four)) == NEW
    whole = trial(1, *[0.4] * 9, state="complete")
    assert chosen(four[0], whole, *four[2:]) == NEW
    assert chosen(four[0], whole, *four[2:], budget=150.0) == 3


def test_once_all_have_begun_the_budget_goes_to_the_most_promising() -> None:
    three = [trial(0, 1.0), trial(1, 0.5), trial(2, 1.1)]
    assert chosen(*three, total=3) == 1
    assert chosen(*three, total=3, budget=0.9) == 1  # a study needs two complete ones
    whole = [trial(n, *[0.4] * 9, state="complete") for n in (3, 4)]
    assert chosen(*three, *whole, total=5, budget=0.9) is None
    assert chosen(trial(0, *[0.4] * 9, state="complete"), total=1) is None
    assert chosen(*(trial(n, 0.5, state="running") for n in range(3)), total=3) is None


def test_of_two_alike_the_cheaper_network_resumes() -> None:
    whole = [trial(n, *[0.4] * 9, state="complete") for n in (0, 1)]
    first, second = (replace(trial(n, 0.8, 0.7), work=10_000_000) for n in (2, 4))
    assert chosen(*whole, first, second, budget=1e3) == 2
    assert chosen(*whole, first, replace(second, work=9_000_000), budget=1e3) == 4
    cost = [remaining_cost(replace(first, work=work), 8) for work in (0, 12_000_000)]
    assert cost == [7 * math.sqrt(4e6), 7 * math.sqrt(16e6)]  # the root of what an epoch costs


def test_the_most_promising_trial_is_finished_over_the_budget_if_need_be() -> None:
    whole = [trial(n, *[0.4] * 9, state="complete") for n in (0, 1)]
    ahead, behind = trial(2, 0.9, 0.7, 0.5, 0.4, 0.3), trial(3, 0.9, 0.8, 0.75, 0.72, 0.7)
    assert chosen(*whole, ahead, behind, total=4, budget=22.0) == 2
    young = replace(ahead, curve={0: 0.5, 1: 0.4, 2: 0.3})  # chasing such trials would never end
    assert chosen(*whole, young, behind, total=4, budget=20.0) is None
    assert chosen(*whole, behind, total=3, budget=18.0) is None
    running = replace(ahead, state="running")
    assert chosen(*whole, running, behind, total=4, budget=22.0) is None
    assert chosen(*whole, ahead, behind, total=4, budget=10.0) is None  # far over the budget


def test_trials_that_never_reported_are_no_candidates() -> None:
    assert chosen(trial(0), trial(1), total=2) is None


def test_complete_trials_without_reports_do_not_replace_those_trained_to_their_ends() -> None:
    """They were added by hand."""
    by_hand = [trial(n, state="complete") for n in (0, 1)]
    paused = [trial(2, 1.0, 0.5), trial(3, 0.9, 0.4), trial(4, 1.0, 0.6)]
    assert chosen(*by_hand, *paused, total=5, budget=2.0) == 3
    whole = [trial(n, *[0.4] * 9, state="complete") for n in (3, 4)]
    assert chosen(*by_hand, paused[0], *whole, total=5, budget=2.0) is None


def test_in_a_long_study_that_has_spent_its_budget_nothing_need_be_promising() -> None:
    """The first trials, the only complete ones, have long been surpassed."""
    early = [trial(n, *[9.0] * 9, state="complete") for n in (0, 1)]
    stopped = [trial(n, 1.0, state="pruned") for n in range(2, 3 * MOST)]
    assert chosen(*early, *stopped, trial(3 * MOST, 0.9), total=1 + 3 * MOST, budget=1.0) is None


def test_of_trials_far_behind_the_best_the_lowest_forecast_resumes() -> None:
    """Their expected improvements are exactly 0."""
    whole = [trial(n, *(1.0 - n / 100 - np.arange(9) / 1e4), state="complete") for n in range(20)]
    perfect = trial(20, *[1e-12] * 9, state="complete")
    behind = [trial(21, 1.0), trial(23, 0.7), trial(25, 0.9)]
    for order in (behind, behind[::-1]):
        assert chosen(*whole, perfect, *order, budget=1e3) == 23


def test_on_a_front_trials_are_compared_with_others_of_their_size() -> None:
    one = Front([(0.0, -1.0), (0.0, -0.5)])  # the study does not minimise size
    assert one.improvement(0.0, -0.9, 0.2) == expected_improvement(-1.0, -0.9, 0.2)
    front = Front([(2.0, -1.0), (5.0, -1.5), (6.0, -0.2)])
    assert [front.level(size) for size in (2.0, 4.9, 5.0, 9.0)] == [-1.0, -1.0, -1.5, -1.5]
    area = 3 * expected_improvement(-1.0, -1.2, 0.1) + 2 * expected_improvement(-1.5, -1.2, 0.1)
    assert front.improvement(2.0, -1.2, 0.1) == area
    assert front.improvement(2.0, -1.2, 0.1) > front.improvement(4.0, -1.2, 0.1)

    falls = np.linspace(1, 0, 9)
    whole = [trial(n, *(0.4 + n / 10 + falls / 2), state="complete") for n in (0, 1)]
    good, small = trial(2, 0.8, 0.7), trial(4, 1.0, 0.95)
    assert chosen(*whole, good, small, budget=1e3) == 2
    whole = [replace(one, size=9.0) for one in whole]
    large, little = replace(good, size=9.0), replace(small, size=5.0)
    assert chosen(*whole, large, little, budget=1e3) == 4


def test_in_a_long_study_a_forecast_uses_the_best_the_latest_and_the_open_trials() -> None:
    many = [trial(n, 1.0, 1.0 - n % 7 / 10, state="pruned") for n in range(1000)]
    assert informative(many[: 2 * MOST]) == many[: 2 * MOST]
    many[5] = replace(many[5], state="paused")
    told = informative(many)
    assert many[5] in told
    assert told[-MOST:] == many[-MOST:]
    assert sum(min(one.curve.values()) < 0.41 for one in told) >= MOST
    assert len(told) == 2 * MOST + 1


def test_in_a_long_search_for_a_front_a_forecast_uses_the_front() -> None:
    # Small networks are not among the best by loss, but are the other end of the front.
    many = [
        replace(trial(n, 2.0, 1.0 - n % 50 / 100, state="complete"), size=1 + n % 50 / 50)
        for n in range(1000)
    ]
    many[20:30] = [replace(one, curve={0: math.nan}) for one in many[20:30]]
    told = informative(many)
    assert {one.size for one in told} == {1 + n / 50 for n in range(50)}
    assert len(told) <= 3 * MOST
    assert not {one.number for one in told} & set(range(20, 30))
