"""Which trial trains next, by hand-fed curves."""

from search.sampling.forecast import Contender, State
from search.sampling.promotion import NEW, Choice, choose


def trial(number: int, *losses: float, state: State = "paused") -> Contender:
    """Reports after the partial epoch (0) and epochs 1, 2, ..."""
    curve = dict(enumerate(losses))
    return Contender(number=number, state=state, params={"depth": 2 + number % 2}, curve=curve)


def chosen(*trials: Contender, total: int = 50, budget: float = 100.0) -> Choice:
    return choose(trials, trials=total, epochs=8, budget=budget)


def test_a_study_begins_with_new_trials_and_the_best_third_of_a_rung_goes_on() -> None:
    assert chosen() == NEW
    assert chosen(trial(0, 1.0), trial(1, 0.9)) == NEW
    assert chosen(trial(0, 1.0), trial(1, 0.5), trial(2, 1.1)) == 1
    assert chosen(trial(0, 1.0), trial(1, 0.5, state="running"), trial(2, 1.1)) == NEW
    young = [trial(n, 1.0 + n / 10) for n in range(3, 6)]
    assert chosen(trial(0, 1.0, 0.8), trial(1, 0.5, 0.4), trial(2, 1.1, 0.9), *young) == 1


def test_once_all_have_begun_the_budget_goes_to_those_that_promise_most() -> None:
    three = [trial(0, 1.0), trial(1, 0.5), trial(2, 1.1)]
    assert chosen(*three, total=3) == 1
    assert chosen(*three, total=3, budget=0.9) == 1  # a study needs two that are whole
    whole = [trial(n, *[0.4] * 9, state="complete") for n in (3, 4)]
    assert chosen(*three, *whole, total=5, budget=0.9) is None
    assert chosen(trial(0, *[0.4] * 9, state="complete"), total=1) is None
    assert chosen(*(trial(n, 0.5, state="running") for n in range(3)), total=3) is None


def test_trials_that_never_reported_are_no_candidates() -> None:
    assert chosen(trial(0), trial(1), total=2) is None
