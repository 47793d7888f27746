"""Trials that are paused at rungs, and resumed or not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import update

from search.analysis.findings import pareto_front
from search.running.run import Run
from search.running.trial import MAX_FAILURES_IN_A_ROW, checkpoint_path
from search.running.worker import train_trials
from search.sampling import chooser
from search.sampling.chooser import Chooser, Contenders
from search.sampling.registry import PRUNERS, Pruner
from search.store import StorageError
from search.store.database import read, transaction
from search.store.folders import sweep
from search.store.leases import Lease
from search.store.schema import leases
from search.store.studies import set_total
from search.store.views import StudyView, view_study
from tests.search.running.made_up import (
    FedTraining,
    MadeUpTraining,
    check_curves,
    register,
    stopping_after,
)

Make = Callable[..., Run]
TRIALS = 8
FIELDS = {
    "pruner": "laying-aside",
    "sampler": "random",
    "trials": TRIALS,
    "epochs": 8,
    "budget": 0.4,
}


@pytest.fixture(autouse=True)
def _rule() -> Iterator[None]:
    register()
    yield
    del PRUNERS["laying-aside"]


def begin(make_run: Make, name: str = "study", **fields: Any) -> Run:
    return make_run(name, train=MadeUpTraining, **{**FIELDS, **fields})


def more(run: Run, trials: int, budget: float) -> Run:
    """The same study, started again with higher totals."""
    set_total(run.study, trials, budget=budget)
    return replace(run, spec=replace(run.spec, trials=trials, budget=budget))


def outcome(view: StudyView) -> list[Any]:
    return [(trial.number, trial.state, len(trial.reports)) for trial in view.trials]


def test_failures_do_not_stop_a_study_whose_other_trials_get_on(make_run: Make) -> None:
    """See also `test_loop.test_failures_in_a_row`."""
    calls = itertools.count()

    def train(*arguments: Any, **options: Any) -> Any:
        return FedTraining([math.inf]) if next(calls) % 4 else MadeUpTraining(*arguments, **options)

    run = replace(make_run(at_a_time=4, **FIELDS), train=train)
    train_trials(run)
    view = view_study(run.study)
    assert view.finished == TRIALS
    assert len(view.in_state("failed")) > MAX_FAILURES_IN_A_ROW


@pytest.fixture(scope="module")
def whole() -> list[Any]:
    """Filled by the first test that needs it: the outcome without a fault."""
    return []


def uninterrupted(make_run: Make, whole: list[Any]) -> list[Any]:
    if not whole:
        run = begin(make_run, "whole")
        train_trials(run)
        whole.extend(outcome(view_study(run.study)))
    return whole


def spent(view: StudyView) -> int:
    return sum(len(trial.curve) for trial in view.trials)


def test_a_worker_has_optuna_read_no_other_trials(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a study of 10 000 trials that would take 5 s and 240 MiB, in every worker."""
    run = begin(make_run, sampler="tpe")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("all trials are read")

    with monkeypatch.context() as reading:
        reading.setattr(optuna.Study, "get_trials", refuse)
        reading.setattr(RDBStorage, "get_all_trials", refuse)
        train_trials(run)
    assert view_study(run.study).finished == run.spec.trials


def test_trials_are_paused_resumed_and_pruned_at_the_end(make_run: Make) -> None:
    run = begin(make_run, trials=12)
    train_trials(run)
    view = view_study(run.study)
    check_curves(view)
    assert view.finished == view.count("complete", "pruned") == view.count() == 12
    assert view.count("complete") >= 2
    budget = 0.4 * 12 * 8
    assert budget <= spent(view) < budget + 4  # the budget, and what began within it
    for trial in run.study.study.get_trials():
        reports = trial.intermediate_values
        last = max(reports)
        assert trial.user_attrs["epochs"] == last
        complete = trial.state == TrialState.COMPLETE
        assert trial.value == (min(reports.values()) if complete else reports[last])
    train_trials(run)  # nothing is left to do
    assert outcome(view_study(run.study)) == outcome(view)


def test_checkpoints_are_kept_for_as_long_as_a_trial_may_resume(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chooser, "KEPT", 3)
    run = begin(make_run)
    train_trials(run)
    view = view_study(run.study)
    sweep(run.study, run.folder)
    kept = [t.number for t in view.trials if checkpoint_path(run.checkpoints, t.number).exists()]
    assert 0 < len(kept) <= 3
    assert all(view.trials[number].state == "pruned" for number in kept)
    monkeypatch.setattr(chooser, "KEPT", TRIALS)
    later = more(run, TRIALS, 1.0)
    again = view_study(run.study)
    paused = {trial.number for trial in again.in_state("paused")}
    assert paused >= set(kept)  # those of rung 0 never had one
    assert all(not again.trials[number].curve for number in paused - set(kept))
    sweep(run.study, run.folder)
    assert all(checkpoint_path(run.checkpoints, number).exists() for number in kept)
    train_trials(later)
    end = view_study(run.study)
    assert end.finished == TRIALS
    assert all(end.trials[number].state == "complete" for number in paused)
    check_curves(end)
    assert not list(run.folder.rglob("*.pt"))


def test_a_raised_total_resumes_paused_trials(make_run: Make) -> None:
    run = begin(make_run)
    train_trials(run)
    before = view_study(run.study)
    train_trials(more(run, 14, 0.4))
    view = view_study(run.study)
    assert view.finished == view.count() == 14
    longer = [len(view.trials[trial.number].curve) > len(trial.curve) for trial in before.trials]
    assert any(longer)
    check_curves(view)
    assert all(trial.state != "running" for trial in view.trials)


@pytest.mark.parametrize("at_a_time", [1, 3])
@pytest.mark.parametrize(("first", "then"), [((3, 0.4), (6, 0.4)), ((6, 0.4), (3, 1.0))])
def test_totals_changed_during_a_run_are_followed(
    make_run: Make, first: tuple[int, float], then: tuple[int, float], at_a_time: int
) -> None:
    """By another start of the study, as soon as the first trial has paused or ended."""
    run = begin(make_run, at_a_time=at_a_time, trials=first[0], budget=first[1])
    train_trials(replace(run, on_change=lambda: set_total(run.study, then[0], budget=then[1])))
    view = view_study(run.study)
    check_curves(view)
    assert view.finished == view.count("complete", "pruned") == view.count() == then[0]
    assert spent(view) >= then[0] * then[1] * view.spec.epochs


def test_a_lost_checkpoint_costs_its_epochs_and_no_report(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it is on another host, say, the trial starts over and passes the rungs it had reached."""
    run = begin(make_run)
    train_trials(run)
    for path in run.folder.rglob("*.pt"):
        path.unlink()
    reported = [len(trial.curve) for trial in view_study(run.study).trials]
    is_new, ask = list[bool](), Chooser.goes_on

    def goes_on(self: Chooser, lease: Lease, epoch: int) -> bool:
        is_new.append(epoch > reported[lease.trial_number])
        return ask(self, lease, epoch)

    monkeypatch.setattr(Chooser, "goes_on", goes_on)
    train_trials(more(run, TRIALS, 1.0))
    view = view_study(run.study)
    assert view.count("complete") == TRIALS
    assert all(is_new)  # the pruner is not asked again about earlier reports
    check_curves(view)


def test_the_baseline_runs_to_its_end(make_run: Make) -> None:
    run = begin(make_run, baseline={"width": 8}, budget=0.2)
    train_trials(run)
    view = view_study(run.study)
    assert view.trials[0].is_baseline
    assert (view.trials[0].state, view.finished) == ("complete", TRIALS)


@pytest.mark.parametrize("stop_after", [1, 8, 24])
def test_an_interrupted_study_ends_as_if_uninterrupted(
    make_run: Make, whole: list[Any], stop_after: int
) -> None:
    expected = uninterrupted(make_run, whole)
    run = begin(make_run, "stopped")
    train_trials(stopping_after(run, stop_after))
    stopped = view_study(run.study)
    assert stopped.count("running") == 0
    reported = sum(len(trial.reports) for trial in stopped.trials)
    assert stop_after <= reported < sum(reports for *_, reports in expected)
    train_trials(begin(make_run, "stopped"))
    view = view_study(run.study)
    check_curves(view)
    assert outcome(view) == expected


def left_between_a_report_and_its_decision(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, at: int, leave: Callable[[Run, Lease], None]
) -> Run:
    """A study in which `leave`, which raises, is called once, in place of the decision number `at`
    at a rung."""
    run = begin(make_run, "left")
    asked, ask = 0, Chooser.goes_on

    def goes_on(self: Chooser, lease: Lease, epoch: int) -> bool:
        nonlocal asked
        asked += epoch in self.rungs
        if asked == at:
            asked += 1
            leave(run, lease)
        return ask(self, lease, epoch)

    monkeypatch.setattr(Chooser, "goes_on", goes_on)
    return run


@pytest.mark.parametrize("vanish_at", [7, 18])
def test_a_worker_that_vanishes_between_a_report_and_its_decision(
    make_run: Make, whole: list[Any], monkeypatch: pytest.MonkeyPatch, vanish_at: int
) -> None:
    """The next holder asks in its place: the study ends as if nothing had happened."""
    expected = uninterrupted(make_run, whole)

    def vanish(run: Run, lease: Lease) -> None:
        host, pid, _, scope = lease.worker.split(":")
        ended = update(leases).where(leases.c.trial_id == lease.trial_id)
        with transaction(run.study.db) as connection:
            connection.execute(ended.values(worker=f"{host}:{pid}:0:{scope}"))
        raise StorageError("as if killed here")

    run = left_between_a_report_and_its_decision(make_run, monkeypatch, vanish_at, vanish)
    with pytest.raises(StorageError):
        train_trials(run)
    train_trials(run)
    view = view_study(run.study)
    check_curves(view)
    assert outcome(view) == expected


@pytest.mark.parametrize("interrupt_at", [7, 18])
def test_a_worker_interrupted_between_a_report_and_its_decision(
    make_run: Make, whole: list[Any], monkeypatch: pytest.MonkeyPatch, interrupt_at: int
) -> None:
    """It hands the trial back, which is not trained on without being chosen."""
    expected = uninterrupted(make_run, whole)
    interrupt = Mock(side_effect=KeyboardInterrupt)
    run = left_between_a_report_and_its_decision(make_run, monkeypatch, interrupt_at, interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_trials(run)
    assert view_study(run.study).count("running") == 0
    train_trials(run)
    assert outcome(view_study(run.study)) == expected


@pytest.mark.parametrize("minimize_also", [None, "multiply_adds"])
def test_the_projects_own_pruner(make_run: Make, minimize_also: str | None) -> None:
    run = begin(make_run, pruner="promotion", minimize_also=minimize_also)
    train_trials(run)
    view = view_study(run.study)
    check_curves(view)
    assert view.finished == view.count("complete", "pruned") == view.count() == TRIALS
    assert 0 < spent(view) < 0.4 * TRIALS * 8 + 8
    if minimize_also is None:
        return
    asked = chooser.make_chooser(Contenders(run.study, run.spec))
    assert asked is not None
    sizes = [one.size for one in read(run.db, asked.contenders)]
    assert sizes == [math.log(trial.multiply_adds or 0) for trial in view.trials]
    front = pareto_front(view)
    assert front[-1] == view.best
    assert {trial.state for trial in front} == {"complete"}


def test_a_custom_pruner_may_give_useless_answers(make_run: Make) -> None:
    """The study still ends with its total."""
    for name, answer in (("says-none", None), ("says-new", "new"), ("says-99", 99)):
        PRUNERS[name] = Pruner(
            description=name, rungs=range, choose=lambda _, _answer=answer, **__: _answer
        )
        try:
            run = begin(make_run, name, pruner=name, trials=5)
            train_trials(run)
        finally:
            del PRUNERS[name]
        view = view_study(run.study)
        assert (view.finished, view.count(), spent(view)) == (5, 5, 0)


@pytest.mark.parametrize(("pruner", "at_a_time"), [("laying-aside", 5), ("halving", 2)])
def test_several_trials_in_one_process(make_run: Make, pruner: str, at_a_time: int) -> None:
    run = begin(make_run, at_a_time=at_a_time, pruner=pruner)
    train_trials(run)
    view = view_study(run.study)
    assert view.finished == view.count() == TRIALS
    check_curves(view)
