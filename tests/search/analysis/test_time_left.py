"""The time left, on simulated studies and where it can be worked out by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean, median
from typing import Any

import pytest

from search.analysis.time_left import expected_epochs, time_left
from search.sampling.halving import TYPICAL_SHARE, rungs
from search.spec.config import StudySpec
from search.spec.study_file import find_study_file, read_study_file
from search.store.views import State, StudyView, TrialView
from tests.search.made_up_views import study_view, trial_view

_FILE = read_study_file(find_study_file("default"))
DEFAULT = StudySpec(**{**_FILE, "dataset": "fashion_mnist", "pruner": "halving", "baseline": None})
STUDIES = 100  # of each kind
# Standard deviation of the logarithm of an epoch's seconds, over the default space: as on 2 CPU
# cores, and as on a GPU, where kernel launches take most of the time.
MACHINES = {"cpu": 0.64, "gpu": 0.15}


def trial_of(
    number: int,
    seconds: Sequence[float],
    *,
    losses: Sequence[float] | None = None,
    early: float | None = None,
    **fields: Any,
) -> TrialView:
    """A trial with these seconds per report, the first of a partial epoch if `early` is given."""
    curve = list(losses or [0.3] * (len(seconds) - (early is not None)))
    made = trial_view(number, curve, early=early)
    rows = [
        replace(row, seconds=s, worker=str(number))
        for row, s in zip(made.reports, seconds, strict=True)
    ]
    first = 0 if early is None else 1
    partial = rows[0] if first else None
    return replace(made, partial_epoch=partial, curve=tuple(rows[first:]), **fields)


def view_of(spec: StudySpec, trials: Sequence[TrialView]) -> StudyView:
    return replace(study_view(trials, class_names=tuple("abcdefghij")), spec=spec)


@cache
def studies(varies: float) -> list[StudyView]:
    """Networks of all sizes; at each rung as many trials continue as in real studies of 50."""
    made = []
    for seed in range(STUDIES):
        rng, trials = random.Random(seed), []
        for number in range(DEFAULT.trials):
            epoch = 10 * math.exp(rng.gauss(0, varies))
            stops = [rung for rung in rungs(DEFAULT.epochs) if rng.random() > TYPICAL_SHARE]
            last = min(stops, default=DEFAULT.epochs) if number >= 2 else DEFAULT.epochs
            seconds = [epoch / 3, *[epoch] * last]
            state: State = "complete" if last == DEFAULT.epochs else "pruned"
            trials.append(trial_of(number, seconds, early=1.0, state=state))
        made.append(view_of(DEFAULT, trials))
    return made


def ratios(finished: int, kinds: Sequence[StudyView]) -> list[tuple[float, float]]:
    """Estimates after `finished` trials over what the others took, and the stated spread."""
    found = []
    for study in kinds:
        left = time_left(replace(study, trials=study.trials[:finished]))
        assert left is not None
        took = sum(trial.seconds for trial in study.trials[finished:])
        found.append((left.seconds / took, left.spread))
    return found


@pytest.mark.parametrize(
    ("machine", "finished", "share"), [("cpu", 3, 0.75), ("cpu", 10, 0.9), ("gpu", 3, 0.9)]
)
def test_after_the_third_trial_estimates_are_within_a_factor_of_two(
    machine: str, finished: int, share: float
) -> None:
    found = ratios(finished, studies(MACHINES[machine]))
    assert fmean(0.5 < ratio < 2 for ratio, _ in found) >= share


def test_estimates_have_little_bias_and_state_their_spread() -> None:
    both = [study for power in MACHINES.values() for study in studies(power)]
    for finished in (3, 10, 25, 40):
        found = ratios(finished, both)
        assert 0.75 < median(ratio for ratio, _ in found) < 1.65
        assert 0.35 < fmean(abs(1 - 1 / ratio) < spread for ratio, spread in found) < 0.85


# One network, no pruner: each number can be worked out by hand. 8 trials of 5 epochs of 10 s.
PLAIN = StudySpec(dataset="fashion_mnist", trials=8, epochs=5, pruner="none")


def plain(number: int, epochs: int = 5, **fields: Any) -> TrialView:
    return trial_of(number, [10.0] * epochs, **fields)


def seconds_left(trials: Sequence[TrialView], /, workers: int = 1, **changes: Any) -> float | None:
    left = time_left(view_of(replace(PLAIN, **changes), trials), workers)
    return None if left is None else left.seconds


def test_equal_trials_take_as_long_as_the_first_did() -> None:
    assert seconds_left([]) is None
    assert seconds_left([plain(0, 0, state="running")]) is None
    assert seconds_left([plain(0), plain(1)]) == pytest.approx(6 * 50)
    done = [plain(number) for number in range(8)]
    assert seconds_left([*done, plain(8, 2, state="running")]) == 0.0
    assert seconds_left([plain(0), plain(1, 3, state="running")]) == pytest.approx(20 + 6 * 50)
    short = seconds_left([plain(0, 2), plain(1, 2)], patience=1)  # ran out of patience
    assert short == pytest.approx(6 * 2 * 10)
    failed = plain(1, 0, state="failed", config=None)  # replaced by another
    assert seconds_left([plain(0), failed]) == pytest.approx(7 * 50)
    pruned = seconds_left([plain(0)], pruner="halving")
    assert pruned is not None
    assert 0 < pruned < 7 * 50


def test_patience_is_learned_from_how_far_trials_get() -> None:
    fields = {"epochs": 50, "patience": 3}
    first = [plain(0, 6, state="running")]  # to twice that, and three more
    assert seconds_left(first, **fields) == pytest.approx((15 - 6) * 10 + 7 * 15 * 10)
    then = [plain(0, 6), plain(1, 6, state="running")]  # may have improved just now
    assert seconds_left(then, **fields) == pytest.approx(3 * 10 + 6 * 6 * 10)


def test_workers_share_the_work_but_not_one_trial() -> None:
    assert seconds_left([plain(n) for n in range(4)], workers=2) == pytest.approx(4 * 50 / 2)
    last = [*(plain(n) for n in range(7)), plain(7, 1, state="running")]
    assert seconds_left(last, workers=4) == pytest.approx(4 * 10)


def test_workers_are_the_processes_that_train_now() -> None:
    one = plain(1, 1, state="running", worker="host:1")
    other = plain(2, 1, state="running", worker="host:2")
    two = view_of(PLAIN, [plain(0), one, other])
    assert time_left(two) == time_left(two, 2)
    packed = view_of(PLAIN, [plain(0), one, replace(other, worker="host:1")])  # in turn, on a GPU
    assert time_left(packed) == time_left(packed, 1)
    nobody = view_of(PLAIN, [plain(0), replace(one, state="interrupted")])
    assert time_left(nobody) == time_left(nobody, 1)


def test_arms_are_expected_to_take_as_long_as_before() -> None:
    spec = StudySpec(**read_study_file(find_study_file("b_depth")))
    assert len(spec.arms) == 6

    def trial(
        number: int, seconds: float, state: State = "complete", epochs: int = 10
    ) -> TrialView:
        arm, repeat = spec.place_of(number)
        return trial_of(number, [seconds] * epochs, arm=arm.name, repeat=repeat, state=state)

    def left(*trials: TrialView, workers: int = 1) -> tuple[float, float]:
        found = time_left(view_of(spec, trials), workers)
        assert found is not None
        return found.seconds, found.spread

    first = [trial(number, number + 1.0) for number in range(5)]
    whole = trial(5, 6.0)
    once = 10 * (1 + 2 + 3 + 4 + 5 + 6)
    assert left(*first, whole)[0] == pytest.approx(2 * once)
    assert left(*first, whole, workers=99)[0] == pytest.approx(60)  # one trial uses one worker
    failed = trial(5, 6.0, "failed", 1)  # and will fail again
    assert left(*first, failed)[0] == pytest.approx(2 * (once - 60 + 6))
    running = trial(5, 6.0, "running", 4)
    assert left(*first, running)[0] == pytest.approx(2 * (once - 60) + 2 * 60 + 6 * 6)
    assert left(*first[:1])[1] > 0.8  # arms of other sizes may take any time


def test_the_best_decide_what_an_epoch_costs_and_the_baseline_does_not() -> None:
    """8 trials of 5 epochs with a budget of 20 epochs."""
    fields: dict[str, Any] = {"pruner": "promotion", "budget": 0.5}
    baseline = trial_of(0, [1.0] * 5, state="complete")
    ours = {**fields, "baseline": {"depth": 2}}
    assert seconds_left([baseline], **ours) is None
    small = [trial_of(n, [10.0 / 3], early=1.0, state="paused") for n in range(1, 4)]
    large = [trial_of(n, [30.0] * 3, state="paused") for n in range(4, 7)]
    left = seconds_left([baseline, *small, *large], **ours)
    assert left == pytest.approx((20 - 5 - 3 / 3 - 9) * 30)
    assert seconds_left([baseline], **fields) is not None


def test_two_trials_are_trained_to_their_ends_whatever_the_budget() -> None:
    """8 trials of 5 epochs of 10 s with a budget of 4 epochs."""
    fields = {"pruner": "promotion", "budget": 0.1}
    paused = [plain(number, 2, state="paused") for number in range(2)]
    paused += [plain(number, 1, state="paused") for number in range(2, 8)]
    assert seconds_left(paused, **fields) == pytest.approx(2 * 3 * 10)
    one = [plain(0), *paused[1:]]
    assert seconds_left(one, **fields) == pytest.approx(3 * 10)
    assert seconds_left([plain(0), plain(1), *paused[2:]], **fields) == 0.0
    begun = seconds_left(paused[:1], **fields)  # this one, another, and six for a rung or so
    assert begun is not None
    assert (3 + 5 + 6 / 3) * 10 < begun < (3 + 5 + 6) * 10
    small = replace(PLAIN, pruner="promotion", budget=0.1)
    assert 2 * 5 + 6 / 3 < 8 * expected_epochs(small) < 2 * 5 + 6
    assert expected_epochs(replace(small, trials=1)) == 5
    assert expected_epochs(replace(small, budget=0.5)) == 0.5 * 5
    # More trials than a lowered total need no negative time.
    many = [plain(number, 1, state="paused") for number in range(8)]
    assert seconds_left([*many, plain(8), plain(9)], **fields, trials=3) == 0.0


def test_if_trials_pause_a_spent_budget_is_not_the_end() -> None:
    """8 trials of 5 epochs of 10 s with a budget of 20 epochs; rungs at 0, 1, 2 and 4."""
    fields = {"pruner": "promotion", "budget": 0.5}
    whole = [plain(number) for number in range(4)]
    assert seconds_left(whole[:3], **fields) == pytest.approx(5 * 10)
    to_begin = seconds_left(whole, **fields)  # four more, each at least a third of an epoch
    assert to_begin is not None
    assert 4 * 10 / 3 < to_begin < 4 * 2 * 10
    paused = [plain(number, 0, state="paused") for number in range(4, 8)]
    assert seconds_left([*whole, *paused], **fields) == 0.0
    for epochs, to_the_next_rung in ((3, 1), (2, 2), (4, 1)):  # at a rung: already continued
        running = plain(4, epochs, state="running")
        left = seconds_left([*whole, running, *paused[1:]], **fields)
        assert left == pytest.approx(10 * to_the_next_rung)
    for state in ("running", "interrupted"):
        asked_for = replace(plain(4, 2, state=state), continued=True)  # to its end
        assert seconds_left([*whole, asked_for, *paused[1:]], **fields) == pytest.approx(30)
