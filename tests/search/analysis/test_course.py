"""How far trials get before they are stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from search.analysis.course import PRIOR_TRIALS, Course, epochs_trained, fit_course, judged
from search.sampling.halving import SHARES
from search.store.view import StudyView, TrialView

MakeTrial = Callable[..., TrialView]
MakeView = Callable[..., StudyView]

COURSE = Course(looks=(1 / 3, 1, 2), passing=(0.5, 0.4, 0.25), longest=6)


def test_expected_epochs_by_hand() -> None:
    assert COURSE.expected(0) == pytest.approx(
        1 / 3 + 0.5 * 2 / 3 + 0.5 * 0.4 * 1 + 0.5 * 0.4 * 0.25 * 4
    )
    assert COURSE.expected(1) == pytest.approx(1 + 0.25 * 4)  # the look after epoch 1 is passed
    assert COURSE.expected(4) == 2
    assert COURSE.expected(6) == 0


def test_the_baseline_runs_to_its_end(make_trial: MakeTrial) -> None:
    assert COURSE.rest(make_trial(0, [1.0], is_baseline=True, state="running")) == 5
    assert COURSE.rest(make_trial(1, [1.0], state="running")) == COURSE.expected(1)


def test_early_looks_are_a_part_of_an_epoch(make_trial: MakeTrial) -> None:
    assert epochs_trained(make_trial(0)) == 0
    assert epochs_trained(make_trial(0, early=1.0)) == pytest.approx(1 / 3)
    assert epochs_trained(make_trial(0, [1.0, 0.9], early=1.0)) == 2


def test_looks_are_the_pruners(make_view: MakeView) -> None:
    view = make_view([])
    assert fit_course(view).looks == (1 / 3, 1, 2, 4, 8)
    assert fit_course(replace(view, spec=replace(view.spec, pruner="none"))).looks == ()
    median = replace(view, spec=replace(view.spec, pruner="median", epochs=4))
    assert fit_course(median).looks == (1, 2, 3)


def test_the_prior_follows_our_rule(make_view: MakeView) -> None:
    """More than the rule's share pass: first ones have no rivals, later ones improve."""
    passing = fit_course(make_view([])).passing
    assert SHARES[0] < passing[0] < SHARES[0] + 0.3
    assert all(0.3 < share < 0.9 for share in passing)


def test_late_trials_get_about_as_far_as_early_ones(
    make_view: MakeView, make_trial: MakeTrial
) -> None:
    """As in the study that the prior is tuned to: the sampler's draws improve as the rivals do."""
    unreported = [make_trial(number, state="running") for number in range(40)]
    early, late = fit_course(make_view([])), fit_course(make_view(unreported))
    assert 0.75 < late.expected(0) / early.expected(0) < 1.25


def test_what_trials_show_moves_the_shares(make_view: MakeView, make_trial: MakeTrial) -> None:
    first = [make_trial(0, [1.0] * 12, is_baseline=True), make_trial(1, [1.0] * 12)]
    passing = [make_trial(n, [1.0], early=1.0, state="pruned") for n in range(2, 22)]
    stopped = [make_trial(n, early=1.0, state="pruned") for n in range(2, 22)]
    high, low = (fit_course(make_view(first + rest)).passing[0] for rest in (passing, stopped))
    assert high - low == pytest.approx(20 / (PRIOR_TRIALS + 20), rel=0.5)
    failed = [make_trial(n, early=1.0, state="failed") for n in range(2, 22)]
    running = [make_trial(n, early=1.0, state="running") for n in range(2, 22)]
    neither, yet = (fit_course(make_view(first + rest)).passing[0] for rest in (failed, running))
    assert low < neither == yet < high


def test_trials_without_rivals_say_nothing_of_later_ones(
    make_view: MakeView, make_trial: MakeTrial
) -> None:
    trials = [make_trial(number, [1.0]) for number in range(4)]
    assert [trial.number for trial in judged(make_view(trials))] == [2, 3]


@pytest.mark.parametrize("trials", [1, 2, 5, 5000])
def test_studies_of_any_length_have_a_course(make_view: MakeView, trials: int) -> None:
    view = make_view([])
    course = fit_course(replace(view, spec=replace(view.spec, trials=trials, epochs=3)))
    assert 0 < course.expected(0) <= 3
