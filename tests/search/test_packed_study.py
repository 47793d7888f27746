"""Several trials at a time in one process, as a person runs it: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import select

import search.study
import search.worker
from search.store.database import snapshot
from search.store.opening import open_database
from search.store.reading import view_study
from search.store.schema import leases
from search.store.studies import find_study

ROOT = Path(__file__).parents[2]
STUDY = """\
[study]
trials = 5
epochs = 25
pruner = "none"

[space]
depth = 1
width = { low = 4, high = 8 }
learning_rate = { low = 1e-3, high = 1e-2, log = true }
hidden = []
"""
WORDS = ["--config", "s.toml", "--dataset", "digits", "--study", "s", "--device", "cpu"]


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "s.toml").write_text(STUDY)
    started = []

    def run(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "search.study", *WORDS, "--workers", "1", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def look(folder: Path) -> tuple[Any, int]:
    """The study, and how many of its trials are held."""
    db = open_database(f"sqlite:///{folder / 'studies.db'}", must_exist=True)
    try:
        study = find_study(db, "s")
        assert study is not None
        with snapshot(db) as connection:
            query = select(leases.c.trial_id).where(leases.c.expires_at > 0)
            held = len(connection.execute(query).all())
        return view_study(study), held
    finally:
        db.close()


def trials_with_epochs(folder: Path) -> int:
    try:
        view, _ = look(folder)
    except (AssertionError, ValueError):
        return 0  # not there yet
    return sum(len(trial.curve) > 0 for trial in view.trials)


def test_sigterm_lays_all_trials_aside(tmp_path: Path, start: Start) -> None:
    process = start("--trials-per-device", "3")
    deadline = time.monotonic() + 60
    while trials_with_epochs(tmp_path) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    told = time.monotonic()
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - told < 5
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in err
    view, held = look(tmp_path)
    assert [trial.state for trial in view.trials] == ["interrupted"] * 3
    assert held == 0
    before = {trial.number: [row.validation_loss for row in trial.reports] for trial in view.trials}

    process = start("--trials-per-device", "2")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    view, held = look(tmp_path)
    assert view.finished == len(view.trials) == 5
    assert held == 0
    for trial in view.trials:
        epochs = [row.epoch for row in trial.reports]
        assert epochs == list(range(26))  # none lost, none twice
        losses = [row.validation_loss for row in trial.reports]
        assert losses[: len(before.get(trial.number, []))] == before.get(trial.number, [])


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "", "10000"])
@pytest.mark.parametrize("command", [search.study, search.worker])
def test_a_number_that_makes_no_sense(
    capsys: pytest.CaptureFixture[str], command: ModuleType, value: str
) -> None:
    with pytest.raises(SystemExit) as left:
        command.main([f"--trials-per-device={value}"])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert "auto or a whole number" in err
    assert repr(value) in err
    assert len(err.splitlines()) == 1
