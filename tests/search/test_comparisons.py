"""Ready-made studies as a person runs them: real processes, on digits."""

import os
import subprocess
import sys
from pathlib import Path

from search.store.opening import open_database
from search.store.reading import view_study
from search.store.studies import find_study
from search.store.views import StudyView

ROOT = Path(__file__).parents[2]
SHORT = ("--dataset", "digits", "--epochs", "2", "--limit", "200", "--workers", "1")


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "search.study", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "true"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout, done.stderr


def view_of(folder: Path, name: str) -> StudyView:
    db = open_database(f"sqlite:///{folder / 'studies.db'}", must_exist=True)
    try:
        study = find_study(db, name)
        assert study is not None
        return view_study(study)
    finally:
        db.close()


def test_a_comparison_and_more_repeats_of_it(tmp_path: Path) -> None:
    words = ("--config", "c_optimizers", *SHORT)
    code, out, err = run(tmp_path, *words, "--repeats", "1")
    assert code == 0, err
    assert "2 of 2 trials" in out
    name = "c_optimizers-digits-limit200"
    assert name in out
    first = view_of(tmp_path, name)

    code, out, err = run(tmp_path, "--study", name, "--repeats", "3", "--workers", "1")
    assert code == 0, err
    assert "6 of 6 trials" in out
    view = view_of(tmp_path, name)
    assert [(trial.arm, trial.repeat) for trial in view.trials] == [
        (arm, repeat) for repeat in range(3) for arm in ("Adam", "SGD")
    ]
    assert [trial.curve for trial in view.trials[:2]] == [trial.curve for trial in first.trials]
    assert [trial.params for trial in view.trials[:2]] == [
        {"arm": "Adam", "repeat": 0},
        {"arm": "SGD", "repeat": 0},
    ]
    assert (view.spec.repeats, view.spec.trials, view.spec.limit) == (3, 6, 200)
    assert {trial.config.recipe.optimizer for trial in view.trials[1::2] if trial.config} == {"sgd"}


def test_a_random_search(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "--config", "c_random_adam", *SHORT, "--trials", "4")
    assert code == 0, err
    assert "4 of 4 trials" in out
    view = view_of(tmp_path, "c_random_adam-digits-limit200")
    assert all(set(t.params) == {"batch_size", "hidden", "learning_rate"} for t in view.trials)
    assert all(trial.arm is None for trial in view.trials)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "--config", "c_networks", *SHORT, "--dry-run")
    assert code == 0, err
    assert err == ""
    assert "c_networks-digits-limit200" in out
    assert "3 arms x 3 repeats of up to 2 epochs" in out
    for arm in ("MLP", "CNN", "CNN, batch norm"):
        assert f"\n  {arm} " in out
    assert "family = mlp, hidden = [256, 128], dropout = 0.2" in out
    assert "An estimate" in out
    assert list(tmp_path.iterdir()) == []


def test_the_list(tmp_path: Path) -> None:
    code, out, err = run(tmp_path, "--list")
    assert code == 0, err
    assert err == ""
    lines = out.splitlines()
    assert len(lines) == len(list((ROOT / "search" / "studies").glob("*.toml")))
    assert any(line.startswith("b_depth ") and "6 arms x 3 repeats" in line for line in lines)
    assert list(tmp_path.iterdir()) == []
