"""The trial loop on hand-fed curves, and on real training where that matters."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from optuna.trial import TrialState
from sqlalchemy import delete

from search.running.run import Run
from search.running.trial import (
    MAX_FAILURES_IN_A_ROW,
    DivergedError,
    FailuresInARow,
    checkpoint_path,
    trial_seed,
)
from search.running.worker import train_trials
from search.spec.arms import Arm
from search.spec.config import StudySpec
from search.spec.extensions import Extension
from search.store import StudyBrokenError
from search.store.records import count_reports
from search.store.schema import epochs
from search.store.views import view_study
from search.training.files import (
    HEAD_BYTES,
    CheckpointError,
    Remote,
    delete_checkpoint,
    load_tensors,
    save_checkpoint,
)
from search.training.train import train
from tests.search.running.made_up import MadeUpTraining, check_curves, fed, stopping_after
from tests.search.zones import EAST, WEST, zone

Make = Callable[..., Run]
GOOD = [2.0, 1.0, 0.5, 0.4]


def outcome(run: Run) -> list[Any]:
    found = []
    for trial in view_study(run.study).trials:
        curve = [(row.epoch, row.train_loss, row.validation_loss) for row in trial.reports]
        found.append((trial.number, trial.state, dict(trial.params), curve))
    return found


def test_values_states_and_attributes(make_run: Make) -> None:
    curves = [[0.1, 1.0, 0.5, 0.6], [2.0, 1.0, 0.4, 0.3], [2.0, 1.5, 0.0, 0.0], [3.0, 0.0, 0.0]]
    told: list[int] = []  # how many epochs had been reported
    run = make_run(train=fed(*curves))
    train_trials(replace(run, on_report=lambda: told.append(count_reports(run.db, 1))))
    view = view_study(run.study)
    assert set(told) == set(range(1, sum(len(trial.reports) for trial in view.trials) + 1))
    assert [trial.state for trial in view.trials] == ["complete", "complete", "pruned", "pruned"]
    first = run.study.study.trials[0]
    assert first.value == 0.5  # the partial epoch's does not count
    assert first.intermediate_values == {0: 0.1, 1: 1.0, 2: 0.5, 3: 0.6}
    shown = {"best_epoch": 2, "epochs": 3, "parameters": view.trials[0].parameters, "accuracy": 0.9}
    assert shown.items() <= first.user_attrs.items()
    assert view.best is not None
    assert view.best.number == 1
    assert [len(trial.curve) for trial in view.trials] == [3, 3, 1, 0]  # pruned at once
    assert not list(run.folder.rglob("*.pt"))
    plain = optuna.load_study(study_name="study", storage=run.db.optuna)
    assert plain.best_value == 0.3
    assert plain.metric_names == ["calibrated validation loss"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (math.nan, "became nan"),
        (-math.inf, "became -inf"),
        (MemoryError(), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory: CUDA"),
        (ZeroDivisionError("a\nb"), "ZeroDivisionError: a"),
    ],
    ids=str,
)
def test_a_bad_trial_fails_with_its_reason_and_never_wins(
    make_run: Make, fault: Any, says: str
) -> None:
    run = make_run(pruner="none", train=fed(GOOD, [2.0, 0.3, fault], *[GOOD] * 3))
    train_trials(run)
    view = view_study(run.study)
    states = [trial.state for trial in view.trials]
    assert states == ["complete", "failed", "complete", "complete", "complete"]
    assert says in (view.trials[1].reason or "")
    assert view.best is not None
    assert view.best.number != 1  # though its loss was the lowest
    assert view.finished == 4


def test_a_study_in_which_everything_fails_stops(make_run: Make) -> None:
    run = make_run(trials=10, train=fed(*[[RuntimeError("no space on the moon")]] * 20))
    with pytest.raises(StudyBrokenError, match="no space on the moon"):
        train_trials(run)
    assert len(run.study.study.trials) == MAX_FAILURES_IN_A_ROW


ARMS = tuple(Arm(name=name) for name in "abcdefg")
DIVERGED, BUSY = "diverged: train loss became nan", "RuntimeError: CUDA driver busy"
RAN = (0, None)  # it reports its partial epoch and pauses
MINE = Extension(name="mine.py", sha256="0" * 64, path="mine.py")


@pytest.mark.parametrize(
    ("fields", "trials", "says"),
    [
        (
            {},
            [(0, BUSY)] * 5,
            r"5 trials failed.*; trial 4: .* busy; fix it, .* same command again$",
        ),
        ({}, [(1, BUSY)] * 5, "trial 4: "),
        ({}, [RAN, (1, BUSY), RAN, *[(1, BUSY)] * 4], "trial 6: "),  # no other gets further
        ({}, [RAN, (-1, BUSY)] * 6, None),
        ({}, [*[(0, BUSY)] * 4, (3, None), (0, BUSY)], None),
        ({"extensions": (MINE,)}, [(0, BUSY)] * 5, "if you change mine.py, give another --study"),
        (
            {"arms": ARMS},
            [*[(0, BUSY)] * 2, (0, DIVERGED), *[(0, BUSY)] * 3],
            "run study with --continue 0 1 3 4 5, which trains",
        ),
        ({"arms": ARMS}, [(0, DIVERGED)] * 6, None),
    ],
)
def test_failures_in_a_row(
    fields: dict[str, Any], trials: list[tuple[int, str | None]], says: str | None
) -> None:
    """Each trial: the last epoch that it reports, and why it fails, if it does."""
    failures, spec = FailuresInARow(), StudySpec(dataset="digits", **fields)

    def train_all() -> None:
        for number, (epoch, reason) in enumerate(trials):
            if epoch >= 0:
                failures.reported(number, epoch)
            state = TrialState.FAIL if reason else TrialState.RUNNING
            failures.ended(spec, number, TrialState.COMPLETE if epoch == 3 else state, reason)

    with nullcontext() if says is None else pytest.raises(StudyBrokenError, match=says):
        train_all()


def test_the_total_is_a_total(make_run: Make) -> None:
    for trials in (4, 4, 6):
        run = make_run(trials=trials, train=fed(*[GOOD] * 4))
        train_trials(run)
        assert view_study(run.study).finished == trials


def test_a_seed_determines_a_study(make_run: Make) -> None:
    runs = [make_run(name, seed=seed) for seed, name in ((5, "a"), (5, "b"), (6, "c"))]
    for run in runs:
        train_trials(run)
    first, second, other = map(outcome, runs)
    assert first == second
    assert first != other
    seeds = {trial_seed(study, number) for study in range(20) for number in range(50)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("interrupted_after", [1, 5])
def test_an_interrupted_study_ends_as_if_uninterrupted(
    make_run: Make, interrupted_after: int
) -> None:
    """Stopped at a training step after so many reports, and resumed by the next start."""
    whole = make_run("whole")
    train_trials(whole)
    run = make_run("interrupted")
    train_trials(stopping_after(run, interrupted_after))
    assert view_study(run.study).finished < 4
    again = make_run("interrupted")
    train_trials(again)
    assert outcome(again) == outcome(whole)


def test_a_power_cut_may_leave_a_checkpoint_ahead_of_the_database(make_run: Make) -> None:
    """Commits were undone and the checkpoint was not: the curve still has no gap."""
    whole = make_run("whole", pruner="none", trials=1)
    train_trials(whole)
    expected = outcome(whole)  # before rows of both studies are deleted
    run = make_run("interrupted", pruner="none", trials=1)
    train_trials(stopping_after(run, 3))
    assert [row.epoch for row in view_study(run.study).trials[0].curve] == [1, 2]
    with run.db.engine.begin() as connection:
        connection.execute(delete(epochs).where(epochs.c.epoch == 2))
        connection.exec_driver_sql("DELETE FROM trial_intermediate_values WHERE step = 2")
    assert checkpoint_path(run.checkpoints, 0).exists()
    again = make_run("interrupted", pruner="none", trials=1)
    train_trials(again)
    assert outcome(again) == expected


def test_a_checkpoint_of_another_study_is_not_used(make_run: Make) -> None:
    """A study that was deleted may have left files under the same name and number."""
    run = make_run(seed=1)
    left = {"identity": {"trial": 1}, "training": {"epoch": 99}}
    save_checkpoint(checkpoint_path(run.checkpoints, 0), left)
    train_trials(run)
    assert len(view_study(run.study).trials[0].curve) == 3


@pytest.mark.parametrize("older", [False, True])
def test_a_checkpoint_is_used_in_every_time_zone(make_run: Make, older: bool) -> None:
    """Earlier versions stored a local time; those are used in the zone where they were written."""
    resumed_from = []

    def watched(*arguments: Any, **options: Any) -> Any:
        resumed_from.append(options["state"]["epoch"] if options["state"] else None)
        return train(*arguments, **options)

    with zone(EAST):
        run = make_run(pruner="none", trials=1, train=watched)
        train_trials(stopping_after(run, 3))
        if older:
            path = checkpoint_path(run.checkpoints, 0)
            assert isinstance(path, Path)
            saved = load_tensors(path.read_bytes()[HEAD_BYTES:])
            saved["identity"]["started"] = str(run.study.study.trials[0].datetime_start)
            delete_checkpoint(path)  # and the previous one
            save_checkpoint(path, saved)
    with zone(EAST if older else WEST):
        train_trials(make_run(pruner="none", trials=1, train=watched))
    assert resumed_from == [None, 2]


def test_a_checkpoint_that_cannot_be_deleted_ends_no_study(
    make_run: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionError("SlowDown: 503")

    monkeypatch.setattr(MemoryFileSystem, "rm_file", refuse)
    run = make_run(train=fed(*[GOOD] * 2), pruner="none", trials=2)
    train_trials(replace(run, checkpoints=Remote("memory://bucket")))
    assert [trial.state for trial in view_study(run.study).trials] == ["complete"] * 2
    told = "cannot delete memory://bucket/trial-0.pt (SlowDown: 503), which is no longer needed"
    assert caplog.messages[0] == told


def test_a_checkpoint_that_cannot_be_read_stops_the_worker_and_is_kept(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(trials=1, train=MadeUpTraining)
    train_trials(stopping_after(run, 3))
    path = checkpoint_path(run.checkpoints, 0)
    saved, read = path.read_bytes(), Path.open

    def gone(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == path:
            raise OSError(116, "Stale file handle")
        return read(self, *arguments, **options)

    with monkeypatch.context() as outage:
        outage.setattr(Path, "open", gone)
        said = rf"cannot read {path} \(Stale file handle\); nothing is lost: make it readable"
        with pytest.raises(CheckpointError, match=said):
            train_trials(again := make_run(trials=1, train=MadeUpTraining))
    assert view_study(again.study).trials[0].state == "interrupted"
    assert path.read_bytes() == saved
    train_trials(again)
    view = view_study(again.study)
    assert view.trials[0].state == "complete"
    check_curves(view)


def test_a_trial_without_memory_for_its_confusion_matrix_is_complete(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MadeUpTraining, "confusion", Mock(side_effect=torch.OutOfMemoryError))
    train_trials(run := make_run(trials=1, train=MadeUpTraining))
    assert view_study(run.study).trials[0].state == "complete"


def test_equal_arms_have_equal_curves_and_one_that_fails_counts(make_run: Make) -> None:
    def train_or_fail(architecture: Any, *rest: Any, **more: Any) -> Any:
        if architecture.hidden == (8,):
            raise DivergedError("diverged: train loss became nan")
        return train(architecture, *rest, **more)

    values = {"plain": {}, "dropout": {"dropout": 0.5, "hidden": (8,)}, "plain again": {}}
    arms = tuple(Arm(name=name, values=it) for name, it in values.items())
    space = {"depth": 1, "width": 4, "hidden": [], "batch_norm": False}
    run = make_run(space=space, arms=arms, epochs=2, repeats=2, train=train_or_fail)
    train_trials(run)
    view = view_study(run.study)
    assert [(it.arm, it.repeat) for it in view.trials] == [(it, n) for n in (0, 1) for it in values]
    curves = [[row.validation_loss for row in trial.curve] for trial in view.trials]
    assert curves[0] == curves[2]  # to the bit: weights, order of the data, draws
    assert curves[3] == curves[5]
    assert curves[0] != curves[3]
    assert [trial.state for trial in view.trials] == ["complete", "failed", "complete"] * 2
    assert view.finished == view.spec.trials == 6
