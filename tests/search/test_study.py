"""The study command as a person runs it: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note

from search.store.opening import open_database
from search.store.reading import view_study
from search.store.studies import find_study
from search.store.views import StudyView

ChildrenOf = Callable[[int], dict[int, str]]
ROOT = Path(__file__).parents[2]
SMALL = """\
[study]
trials = 6
epochs = 4
limit = 300

[space]
depth = { low = 1, high = 2 }
width = { low = 4, high = 12 }
learning_rate = { low = 1e-3, high = 1e-2, log = true }
weight_decay_kind = ["none", "decoupled"]
hidden = []

[baseline]
depth = 1
width = 4
"""


class Place:
    """A folder of its own, in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[str]] = []
        (folder / "small.toml").write_text(SMALL)

    def start(self, *words: str, module: str = "search.study", **env: str) -> Any:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", module, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "true", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self, *words: str, module: str = "search.study", **env: str) -> tuple[int, str, str]:
        process = self.start(*words, module=module, **env)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def search(self, *words: str) -> tuple[int, str, str]:
        return self.run("--config", "small.toml", "--dataset", "digits", "--study", "s", *words)

    def view(self, name: str = "s") -> StudyView:
        db = open_database(f"sqlite:///{self.folder / 'studies.db'}", must_exist=True)
        try:
            study = find_study(db, name)
            assert study is not None
            return view_study(study)
        finally:
            db.close()

    def wait_until(self, holds: Callable[[StudyView], bool], name: str = "s") -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if (self.folder / "studies.db").exists():
                try:
                    if holds(self.view(name)):
                        return
                except (AssertionError, KeyError, ValueError):
                    pass  # not whole yet
            time.sleep(0.1)
        raise AssertionError("it did not come to that")

    def processes(self) -> list[int]:
        """Those that were started here, or by one that was."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended, or is another user's
                if (process / "cwd").readlink() == self.folder:
                    found.append(int(process.name))
        return found

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def test_a_study_from_nothing(place: Place) -> None:
    code, out, err = place.search()
    assert code == 0, err
    assert "6 of 6 trials" in out
    assert "search.finalize" in out
    assert "6/6 trials" in err  # the progress
    view = place.view()
    assert view.finished == 6
    assert view.baseline is not None
    assert view.baseline.number == 0
    assert view.baseline.state == "complete"
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{place.folder}/studies.db")
    assert "6 of 6 trials finished" in get_note(study)
    left = {path.name for path in place.folder.iterdir()}
    assert left - {"studies.db-wal", "studies.db-shm"} == {"runs", "small.toml", "studies.db"}


def test_ctrl_c_and_the_same_command_again(place: Place) -> None:
    words = ("--config", "small.toml", "--dataset", "digits", "--study", "s", "--trials", "60")
    process = place.start(*words)
    place.wait_until(lambda view: len(view.trials) > 3)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - asked < 5
    assert process.returncode == 130
    assert "nothing is lost" in err
    assert "--trials 60" in err  # how to go on
    before = place.view()
    assert before.finished < 60

    code, _, err = place.run(*words)
    assert code == 0, err
    after = place.view()
    assert after.finished == 60
    assert not after.in_state("running", "interrupted")
    for old, new in zip(before.trials, after.trials, strict=False):
        assert new.reports[: len(old.reports)] == old.reports


def test_sigterm_says_143_and_a_second_signal_leaves_at_once(place: Place) -> None:
    process = place.start("--config", "small.toml", "--dataset", "digits", "--study", "s")
    place.wait_until(lambda view: len(view.trials) > 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143


def test_a_time_limit_is_no_loss(place: Place) -> None:
    code, out, err = place.search("--trials", "4000", "--timeout", "8s", "--workers", "1")
    assert code == 0, err
    assert 0 < place.view().finished < 4000
    assert "4000" in out


def test_workers_share_a_study_and_survive_each_other(
    place: Place, children_of: ChildrenOf
) -> None:
    words = ("--config", "small.toml", "--dataset", "digits", "--study", "s")
    process = place.start(*words, "--trials", "80", "--workers", "2")
    place.wait_until(lambda view: len(view.trials) > 2)
    os.kill(min(children_of(process.pid)), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    view = place.view()
    assert view.finished == 80
    assert not view.in_state("running")
    assert [trial.number for trial in view.trials] == list(range(len(view.trials)))


def test_a_dead_worker_is_replaced(place: Place, children_of: ChildrenOf) -> None:
    words = ("--config", "small.toml", "--dataset", "digits", "--study", "s")
    process = place.start(*words, "--trials", "4000", "--workers", "2")
    place.wait_until(lambda view: len(view.trials) > 2)
    first = children_of(process.pid)
    assert len(first) == 2
    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    trials = len(place.view().trials)
    place.wait_until(
        lambda view: len(children_of(process.pid)) == 2 and len(view.trials) > trials + 2
    )
    assert killed not in children_of(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not any(Path(f"/proc/{pid}").exists() for pid in first)


def test_a_mistake_leaves_no_worker_behind(place: Place) -> None:
    """They are started before the study is planned."""
    code, _, err = place.run("--dataset", "nonsense", "--workers", "2")
    assert code == 2
    assert "nonsense" in err
    assert place.processes() == []


def test_the_command_killed_while_a_worker_loads_its_libraries_leaves_none(place: Place) -> None:
    words = ("--config", "small.toml", "--dataset", "digits", "--study", "s")
    process = place.start(*words, "--trials", "4000", "--workers", "2")
    place.wait_until(lambda view: len(view.trials) > 2)
    before = place.processes()
    os.kill(max(set(before) - {process.pid}), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not set(place.processes()) - set(before):  # another takes the place of the dead one
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=30)
    while left := place.processes():
        assert time.monotonic() < deadline + 30, left
        time.sleep(0.1)


def test_a_worker_joins_with_the_url_alone(place: Place) -> None:
    assert place.search("--timeout", "1s", "--trials", "8")[0] == 0
    url = f"sqlite:///{place.folder / 'studies.db'}"
    code, _, err = place.run("--storage", url, "--study", "s", module="search.worker")
    assert code == 0, err
    assert place.view().finished == 8


def test_status(place: Place) -> None:
    place.search("--trials", "3")
    code, out, _ = place.run("--status")
    assert code == 0
    assert "3 of 3" in out


def test_without_data_and_network_it_runs_on_digits_and_says_so(
    place: Place, tmp_path: Path
) -> None:
    unreachable = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    code, out, err = place.run(
        *("--trials", "2", "--epochs", "1", "--data-dir", str(tmp_path / "none")), **unreachable
    )
    assert code == 0, err
    assert "digits" in out
    assert "Fashion-MNIST could not be had" in err
    assert "Fashion-MNIST could not be had" in out
    assert place.view("digits").dataset.name == "digits"


def test_one_seed_one_study(place: Place) -> None:
    for name in ("a", "b"):
        words = ("--config", "small.toml", "--dataset", "digits", "--study", name)
        assert place.run(*words, "--workers", "1", "--seed", "3")[0] == 0

    def outcome(name: str) -> list[Any]:
        return [
            (trial.params, trial.state, [row.validation_loss for row in trial.reports])
            for trial in place.view(name).trials
        ]

    assert outcome("a") == outcome("b")
