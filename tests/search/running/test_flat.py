"""A study that ends when further trials are expected to gain less than was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial

from search.analysis.wording import notes_in_words
from search.running import by_hand
from search.running.request import read_request
from search.running.run import Run
from search.running.worker import train_trials
from search.sampling import flat
from search.sampling.flat import set_flat, why_flat
from search.sampling.forecast import Contender
from search.spec.config import StudySpec
from search.store.records import count_reports
from search.store.schema import FLAT, stored_flat
from search.store.studies import set_total
from search.store.views import State, StudyView, view_study
from search.study import main
from search.terminal.summary import status_text
from tests.search.running.made_up import MadeUpTraining, check_curves

Make = Callable[..., Run]
ALL = 10.0  # more than any trial gains


def contender(number: int, state: State, *curve: float) -> Contender:
    rate = {"learning_rate": 1e-3 * (1 + number)}
    seen = dict(enumerate(curve))
    return Contender(number=number, state=state, params=rate, recorded=rate, curve=seen)


def why(contenders: list[Contender], gain: float) -> str | None:
    return why_flat(contenders, StudySpec(dataset="digits", epochs=3), gain, prior=None)


def test_a_study_is_flat_when_neither_new_nor_paused_trials_gain() -> None:
    level = [contender(n, "complete", 1.0, 0.6, 0.5, 0.4 + n / 1000) for n in range(12)]
    said = "by less than 0.01: the latest 4 of 12 lowered the best forecast by 0"
    assert said in (why(level, 0.01) or "")
    newer = contender(12, "complete", 0.9, 0.5, 0.4, 0.3)
    assert why([*level, newer], 0.01) is None
    assert why([*level, newer], 0.2) is not None
    for curve in ((), (math.nan, math.inf)):  # of a complete one that was added by hand
        assert why([*level, contender(12, "complete", *curve)], 0.01) is not None
        assert why([contender(n, "complete", *curve) for n in range(9)], ALL) is None
    for state in ("paused", "running"):
        assert why([contender(0, state, 0.5, 0.4), *level[1:]], 0.01) is None
        assert why([contender(0, state, 2.0, 1.9), *level[1:]], 0.01) is not None
    assert why([contender(n, "paused", 1.0) for n in range(9)], ALL) is None


def train(run: Run, gain: float | None, trials: int = 16) -> StudyView:
    """As the next start of the command does."""
    set_flat(run.study, gain, trials)
    set_total(run.study, trials, budget=run.spec.budget)
    spec = replace(run.spec, trials=trials)
    train_trials(replace(run, spec=spec, train=MadeUpTraining))
    view = view_study(run.study)
    assert view.finished == view.count() == view.spec.trials
    check_curves(view)
    return view


@pytest.fixture
def ended(make_run: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, StudyView]:
    """A study of at most 32 trials that ended as flat."""
    monkeypatch.setattr(flat, "FEWEST", 8)
    run = make_run(trials=32, epochs=2, pruner="promotion", sampler="random")
    return run, train(run, ALL, 32)


@pytest.mark.parametrize("pruner", ["promotion", "halving"])
def test_a_flat_study_ends_says_why_and_can_be_resumed(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, pruner: str
) -> None:
    monkeypatch.setattr(flat, "FEWEST", 8)
    run = make_run(trials=16, epochs=4, pruner=pruner, sampler="random", budget=0.6)
    first = train(run, ALL)
    assert 8 <= first.finished < 16
    assert first.count("complete") > 0
    text = " ".join(status_text(first).split())
    assert f"{first.finished} of {first.finished} trials finished" in text
    assert "Ended early: further trials are expected to lower the calibrated loss by less" in text
    assert "its total was 16 trials. To resume, repeat the command without" in text
    assert "or with more --trials than that." in text
    assert notes_in_words(first)[-1].startswith("Ended early: further trials are")
    assert train(run, ALL) == first  # the same command again does nothing
    more = train(run, ALL, 24)
    assert 1.5 * first.finished <= more.finished < 24
    spec = replace(run.spec, trials=24)
    by_hand.enqueue(run.study, spec, [{"depth": 2}])
    assert view_study(run.study).stopped is None
    again = train(run, ALL, 24)
    assert again.finished == more.finished + 1
    by_hand.continue_trials(run.study, spec, [again.in_state("pruned")[-1].number])
    assert again.stopped is not None
    assert view_study(run.study).stopped is None
    last = train(run, None, 24)
    assert (last.finished, last.stopped) == (24, None)
    assert "Ended early" not in status_text(last)
    longer = [len(last.trials[one.number].curve) > len(one.curve) for one in first.trials]
    assert any(longer) == (pruner == "promotion")


def test_a_flat_study_goes_on_to_any_total_above_the_one_shown(
    ended: tuple[Run, StudyView],
) -> None:
    run, first = ended
    assert first.finished < 16
    assert train(run, ALL, 32) == first
    more = train(run, ALL, 24)
    assert 1.5 * first.finished <= more.finished < 24
    assert train(run, ALL, 24) == more
    assert train(run, ALL, more.finished) == more


@pytest.mark.parametrize(("before", "after"), [(ALL, None), (None, ALL)])
def test_running_workers_follow_the_setting_that_another_start_changes(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, before: float | None, after: float | None
) -> None:
    monkeypatch.setattr(flat, "FEWEST", 8)
    run = make_run(trials=16, epochs=2, pruner="promotion", sampler="random", train=MadeUpTraining)
    set_flat(run.study, before, 16)

    def change() -> None:
        if count_reports(run.db, run.study.study_id) == 3:
            set_flat(run.study, after, 16)

    train_trials(replace(run, on_report=change))
    view = view_study(run.study)
    assert view.stop_when_flat == after
    assert (view.stopped is None, view.finished == 16) == (after is None, after is None)
    check_curves(view)


def test_a_study_that_ended_after_the_setting_was_withdrawn_goes_on(
    ended: tuple[Run, StudyView],
) -> None:
    """As earlier versions left it."""
    run, first = ended
    run.study.study.set_user_attr(FLAT, None)
    request = read_request(None, {"study": "study"})
    assert by_hand.foreseen(run.study, run.spec, request, [])[0] == run.spec
    last = train(run, None, 32)
    assert (last.finished, last.stopped) == (32, None)
    assert any(len(last.trials[it.number].curve) > len(it.curve) for it in first.trials)


def test_failed_trials_do_not_put_off_its_end(ended: tuple[Run, StudyView]) -> None:
    run, first = ended
    for _ in range(20):
        run.study.study.add_trial(create_trial(state=TrialState.FAIL))
    set_flat(run.study, ALL, 24)
    assert stored_flat(run.study.attributes) == (ALL, first.finished)


def test_a_dry_run_of_a_flat_study_counts_only_what_it_would_train(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setattr(flat, "FEWEST", 8)
    run = make_run(trials=16, epochs=4, pruner="promotion", sampler="random", budget=0.6)
    first = train(run, ALL)
    there = ["--study", "study", "--storage", f"sqlite:///{tmp_path / 'studies.db'}"]
    again = [*there, "--stop-when-flat", str(ALL), "--workers", "1", "--dry-run"]
    for arguments, finished, left in (
        ([], first.finished, False),
        (["--continue", str(first.in_state("pruned")[0].number)], first.finished - 1, True),
    ):
        assert main([*again, *arguments]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"{first.finished} trials of up to 4" in said
        assert f"{finished} of them finished" in said
        assert ("give or take 0 %" in said) != left
        assert "Ended early: further" in said
        assert said.endswith("The study was not changed. Leave out --dry-run to begin.")
    assert view_study(run.study) == first


def test_a_study_whose_trials_still_gain_does_not_end(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat, "FEWEST", 4)
    run = make_run(trials=8, epochs=2, pruner="none", sampler="random")
    view = train(run, 1e-12, 8)
    assert (view.stop_when_flat, view.finished, view.stopped) == (1e-12, 8, None)
