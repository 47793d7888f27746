"""Every contender runs whole trials in a study that already holds some, and all are stored."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from benchmarks.coordination import PRUNERS, Rounds, summary
from benchmarks.coordinators import (
    EPOCHS,
    STUDY,
    Ends,
    fill_optuna,
    fill_ours,
    loss_of,
    make_spec,
    run_optuna,
    run_ours,
)
from benchmarks.trials_present import make_up_trials
from search.store.opening import open_database
from search.store.studies import require_study
from search.store.views import view_study

PRESENT, TRIALS = 30, 3


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    path = tmp_path / "ours.db"
    fill_ours(path, make_up_trials(make_spec(PRESENT), PRESENT), TRIALS)
    return path


@pytest.fixture
def optunas(tmp_path: Path) -> Path:
    path = tmp_path / "optuna.db"
    fill_optuna(path, make_up_trials(make_spec(PRESENT), PRESENT))
    return path


def test_all_begin_with_the_same_trials(ours: Path, optunas: Path) -> None:
    studies = [
        optuna.load_study(storage=f"sqlite:///{path}", study_name=STUDY) for path in (ours, optunas)
    ]
    first, second = (study.get_trials() for study in studies)
    assert first == second
    assert [trial.number for trial in first] == list(range(PRESENT))
    states = [trial.state for trial in first]
    assert states.count(TrialState.COMPLETE) == PRESENT // 3
    assert states.count(TrialState.PRUNED) == PRESENT - PRESENT // 3
    db = open_database(f"sqlite:///{ours}")
    view = view_study(require_study(db, STUDY))
    db.close()
    for seen, trial in zip(view.trials, first, strict=True):
        assert {row.epoch: row.validation_loss for row in seen.reports} == trial.intermediate_values
        assert seen.config is not None


def check(path: Path, ends: Ends, steps: range) -> None:
    assert len(ends.seconds) == len(ends.cpu_seconds) == TRIALS
    assert ends.started < ends.seconds[0]
    assert list(ends.seconds) == sorted(ends.seconds)
    study = optuna.load_study(storage=f"sqlite:///{path}", study_name=STUDY)
    new = study.get_trials()[PRESENT:]
    assert [trial.state for trial in new] == [TrialState.COMPLETE] * TRIALS
    for number, trial in enumerate(new):
        assert trial.intermediate_values == {step: loss_of(number, step) for step in steps}
        assert len(trial.params) == len(study.trials[0].params) == 8
    assert study.best_trial.number == PRESENT + TRIALS - 1


def test_ours(ours: Path) -> None:
    check(ours, run_ours(ours, TRIALS), range(EPOCHS + 1))


@pytest.mark.parametrize("name", list(PRUNERS))
def test_optunas_loop(optunas: Path, name: str) -> None:
    ends = run_optuna(optunas, TRIALS, PRESENT, PRUNERS[name]())
    check(optunas, ends, range(1, EPOCHS + 1))


def test_ratios_are_taken_within_a_round() -> None:
    def ends(milliseconds: float) -> Ends:
        return Ends(started=0.0, seconds=[milliseconds / 1000 * n for n in range(1, 6)])

    found: Rounds = {
        "ours": {100: [ends(10), ends(20)]},
        "optuna_median": {100: [ends(100), ends(400)]},
        "ray_asha": {0: [ends(1000), ends(1000)]},
    }
    ratios = summary(found)["ratio_to_ours"]
    assert ratios.keys() == {"optuna_median"}
    assert ratios["optuna_median"]["100"]["rounds"] == pytest.approx([10, 20])
