"""The time left, on simulated studies: the pruner's own rule over synthetic curves."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from statistics import fmean, median
from typing import Any

import optuna
import pytest
import torch  # counts multiply-adds, see `work`

from search.analysis.time_left import (
    POWER,
    draw_configs,
    time_left,
    time_left_now,
    work,
    workers_now,
)
from search.sampling.halving import rungs, worth_continuing
from search.spec.config import StudySpec, TrialConfig
from search.spec.domains import Fixed, Range
from search.spec.space import arm_config, suggest
from search.spec.study_file import find_study_file, read_study_file
from search.store.views import State, StudyView, TrialView
from tests.search.made_up_views import study_view, trial_view

assert torch
DEFAULT = StudySpec(dataset="fashion_mnist", **read_study_file(find_study_file("default")))
STUDIES = 100  # of each kind
CONFIGS = list(draw_configs(DEFAULT, 60))
# Seconds of an epoch as powers of `work`, as measured on 2 CPU cores and bound by launches; `work`
# is itself a power of multiply-adds.
MACHINES = {"cpu": 0.68 / POWER, "gpu": 0.15 / POWER}


def trial_of(
    number: int,
    seconds: Sequence[float],
    config: TrialConfig,
    *,
    losses: Sequence[float] | None = None,
    early: float | None = None,
    **fields: Any,
) -> TrialView:
    """A trial with so many seconds in each report, the first of them the early look if any."""
    curve = list(losses or [0.3] * (len(seconds) - (early is not None)))
    made = trial_view(number, curve, early=early, config=config)
    rows = [replace(row, seconds=s) for row, s in zip(made.reports, seconds, strict=True)]
    first = 0 if early is None else 1
    return replace(
        made,
        early_look=rows[0] if first else None,
        curve=tuple(rows[first:]),
        **{"started": None, "finished": None, **fields},
    )


def view_of(spec: StudySpec, trials: Sequence[TrialView]) -> StudyView:
    view = study_view(trials, class_names=tuple("abcdefghij"))
    return replace(view, spec=spec)


class Simulation:
    """One study: hidden merits, curves with noise, and the halving rule that decides who goes on.

    Networks that are too small or too large lack merit. After ten random trials the sampler finds
    it: the best of ever more draws, judged with error. In a real study on Fashion-MNIST, 50 trials
    of at most 10 epochs, trials trained for 3.1 epochs on average, and late ones for no less.
    """

    def __init__(self, seed: int, spec: StudySpec, power: float) -> None:
        self.random, self.spec, self.power = random.Random(seed), spec, power
        self.rungs: dict[int, list[float]] = {}

    def candidate(self) -> tuple[TrialConfig, float]:
        config = self.random.choice(CONFIGS)
        size = math.log(work_of(config) / (8e6**POWER)) / POWER
        return config, abs(self.random.gauss(0, 1)) + 0.3 * abs(size)

    def trial(self, number: int) -> TrialView:
        config, flaw = self.candidate()
        if number > 10:
            drawn = [(config, flaw), *(self.candidate() for _ in range(number // 3))]
            config, flaw = min(drawn, key=lambda each: each[1] + self.random.gauss(0, 0.1))
        epoch = work_of(config) ** self.power / 1e3 * math.exp(self.random.gauss(0, 0.15))
        losses, goes_on = self.train(flaw, spared=number == 0)
        # The look trains and scores on a third; the rest trains on two thirds, scores on all.
        seconds = [epoch / 3, 0.69 * epoch, *[epoch] * len(losses)][: len(losses)]
        state: State = "complete" if goes_on else "pruned"
        look, curve = losses[0], losses[1:]
        return trial_of(
            number, seconds, config, losses=curve, early=look, state=state, is_baseline=number == 0
        )

    def train(self, flaw: float, *, spared: bool) -> tuple[list[float], bool]:
        final = 0.2 + 0.03 * flaw
        height = 0.2 * math.exp(0.4 * flaw + self.random.gauss(0, 0.2))
        losses: list[float] = []
        for epoch in range(self.spec.epochs + 1):
            fall = (epoch or 1 / 3) ** -0.7 - 0.15
            loss = final + height * fall + self.random.gauss(0, 0.008)
            losses.append(min([loss, *losses]))
            if epoch in rungs(self.spec.epochs + 1):
                rivals = self.rungs.setdefault(epoch, [])
                goes_on = spared or worth_continuing(epoch, losses[-1], rivals)
                rivals.append(losses[-1])
                if not goes_on:
                    return losses, False
        return losses, True


def work_of(config: TrialConfig) -> float:
    return work(config.architecture, (1, 28, 28), 10)


@cache
def studies(power: float, epochs: int = DEFAULT.epochs) -> list[StudyView]:
    spec = replace(DEFAULT, epochs=epochs)
    made = []
    for seed in range(STUDIES):
        simulation = Simulation(seed, spec, power)
        made.append(view_of(spec, [simulation.trial(number) for number in range(spec.trials)]))
    return made


def ratios(finished: int, kinds: Sequence[StudyView]) -> list[tuple[float, float]]:
    """Estimates after so many trials over what the others took, and the spread that is told."""
    found = []
    for study in kinds:
        left = time_left(replace(study, trials=study.trials[:finished]))
        assert left is not None
        took = sum(trial.seconds for trial in study.trials[finished:])
        found.append((left.seconds / took, left.spread))
    return found


def share_within_two(finished: int, kinds: Sequence[StudyView]) -> float:
    return fmean(0.5 < ratio < 2 for ratio, _ in ratios(finished, kinds))


@pytest.mark.parametrize("machine", MACHINES)
def test_after_the_third_trial_it_is_within_a_factor_of_two(machine: str) -> None:
    assert share_within_two(3, studies(MACHINES[machine])) >= 0.9
    assert share_within_two(10, studies(MACHINES[machine])) >= 0.9
    if machine == "cpu":
        assert share_within_two(3, studies(MACHINES[machine], epochs=24)) >= 0.8


def test_it_is_without_much_bias_and_tells_its_spread() -> None:
    """What little is left at the end is seen too high here, in the real study too low."""
    both = [study for power in MACHINES.values() for study in studies(power)]
    for finished in (3, 10, 25, 40):
        found = ratios(finished, both)
        assert 0.75 < median(ratio for ratio, _ in found) < 1.65
        assert 0.5 < fmean(abs(1 - 1 / ratio) < spread for ratio, spread in found) < 0.85


# One network, no pruner: each figure can be worked out by hand. 8 trials of 5 epochs of 10 s.
PLAIN = StudySpec(dataset="fashion_mnist", trials=8, epochs=5, pruner="none")
CONFIG = suggest(optuna.create_study().ask(), PLAIN)


def plain(number: int, epochs: int = 5, **fields: Any) -> TrialView:
    return trial_of(number, [10.0] * epochs, fields.pop("config", CONFIG), **fields)


def seconds_left(trials: Sequence[TrialView], workers: int = 1, **changes: Any) -> float | None:
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
    assert short == pytest.approx(6 * fmean([5, 2, 2]) * 10)
    failed = plain(1, 0, state="failed", config=None)  # made up for by another
    assert seconds_left([plain(0), failed]) == pytest.approx(7 * 50)


def test_workers_share_the_work_but_not_one_trial() -> None:
    assert seconds_left([plain(n) for n in range(4)], workers=2) == pytest.approx(4 * 50 / 2)
    last = [*(plain(n) for n in range(7)), plain(7, 1, state="running")]
    assert seconds_left(last, workers=4) == pytest.approx(4 * 10)


def test_time_between_trials_counts_and_a_night_laid_aside_does_not() -> None:
    start = datetime(2026, 3, 1)
    times = [timedelta(seconds=52), timedelta(hours=9), timedelta(seconds=52)]
    trials = [plain(n, started=start, finished=start + time) for n, time in enumerate(times)]
    assert seconds_left(trials) == pytest.approx(5 * (50 + 2))


def test_the_sooner_trials_are_stopped_the_sooner_it_ends() -> None:
    pruned, whole = (seconds_left([plain(0)], pruner=name) for name in ("halving", "none"))
    assert pruned is not None
    assert whole is not None
    assert 0 < pruned < whole
    # Eight unpadded convolutions do not fit 28 pixels; such a trial fails, costing no time.
    left = seconds_left(
        [plain(0)], space={"depth": Range(low=1, high=12), "padding": Fixed(value=0)}
    )
    assert left is not None
    assert 0 < left < 1e6


def test_workers_are_those_that_train_now() -> None:
    one, other = plain(1, 1, state="running"), plain(2, 1, state="running")
    two = view_of(PLAIN, [plain(0), one, replace(other, worker="host:2")])
    assert workers_now(two, 1e12) == {None, "host:2"}
    between = view_of(PLAIN, [plain(0)])  # two trials, where a worker holds none
    ended = between.trials[0].curve[-1].reported_at
    assert workers_now(between, ended + 1) == {"host:1"}
    assert workers_now(between, ended + 100) == set()


def test_what_was_trained_since_the_last_report_is_counted_down() -> None:
    view = view_of(PLAIN, [plain(0), plain(1, 2, state="running", worker="host:1")])
    reported = view.trials[1].curve[-1].reported_at
    at_once, later = time_left_now(view, reported), time_left_now(view, reported + 7)
    assert at_once is not None
    assert later is not None
    assert at_once.seconds - later.seconds == pytest.approx(7)
    nobody = replace(view, trials=(view.trials[0], replace(view.trials[1], state="interrupted")))
    assert time_left_now(nobody, 1e12) == time_left(nobody)


def arms(name: str, **fields: Any) -> StudySpec:
    return replace(StudySpec(**read_study_file(find_study_file(name))), **fields)


def arm_trial(
    spec: StudySpec, number: int, epochs: int, seconds: float, state: State = "complete"
) -> TrialView:
    arm, repeat = spec.place_of(number)
    config = arm_config(spec, arm)
    return trial_of(number, [seconds] * epochs, config, state=state, arm=arm.name, repeat=repeat)


def simulated_arms(spec: StudySpec, seed: int) -> list[TrialView]:
    """Epochs cost as on 2 CPU cores; early stopping leaves 15 to 30 of them."""
    draws = random.Random(seed)
    trials = []
    for number in range(spec.trials):
        size = work_of(arm_config(spec, spec.place_of(number)[0])) ** MACHINES["cpu"]
        epochs = spec.epochs if spec.patience is None else draws.randint(15, 30)
        trials.append(arm_trial(spec, number, epochs, size * math.exp(draws.gauss(0, 0.15))))
    return trials


@pytest.mark.parametrize(
    ("name", "done", "factor"), [("a1_architectures", None, 1.6), ("b_depth", 1, 2.0)]
)
def test_sizes_say_what_other_arms_will_take(name: str, done: int | None, factor: float) -> None:
    """The first arm of b_depth costs a tenth of the last: a mean over trials would be far off."""
    spec = arms(name)
    for seed in range(10):
        whole = simulated_arms(spec, seed)
        first = done or len(spec.arms)
        left = time_left(view_of(spec, whole[:first]))
        assert left is not None
        took = sum(each.seconds for each in whole[first:])
        assert 1 / factor < left.seconds / took < factor


def test_arms_go_as_they_went_before() -> None:
    spec = arms("b_depth")
    first = [arm_trial(spec, number, 10, 3.0) for number in range(5)]

    def left(last: TrialView, workers: int = 1) -> float:
        found = time_left(view_of(spec, [*first, last]), workers)
        assert found is not None
        return found.seconds

    whole = arm_trial(spec, 5, 10, 3.0)
    assert left(whole) == pytest.approx(12 * 30)
    assert left(whole, 2) == pytest.approx(6 * 30)
    assert left(whole, 99) == pytest.approx(30)  # one is trained by one
    failed = arm_trial(spec, 5, 1, 3.0, state="failed")  # and will do so again
    assert left(failed) == pytest.approx(2 * (5 * 30 + 3))
    assert left(arm_trial(spec, 5, 4, 3.0, state="running")) == pytest.approx(12 * 30 + 6 * 3)
