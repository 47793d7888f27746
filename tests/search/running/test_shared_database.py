"""What anyone who can write to a database can make a worker do: only train, or refuse."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import optuna
import pytest

from search import study, worker
from search.running.study import run_study
from search.running.trial import checkpoint_path
from search.running.worker import work_for_study
from search.spec.space import OVERRIDES
from search.store import StorageError
from search.store.database import Database
from search.store.opening import open_database
from search.store.schema import DATASET, SPEC
from search.store.views import StudyView
from search.terminal.commands import run
from search.training.epoch import DeviceLostError
from search.training.train import Training
from tests.conftest import draw_nothing
from tests.search.running.made_up import TINY

pytestmark = pytest.mark.usefixtures("unseen")
REFUSED = ValueError  # all errors that users see on one line are of this kind
WORK = ["--study", "s", "--device", "cpu", "--quiet", "--storage", "sqlite:///studies.db"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a study of one finished trial."""
    file = tmp_path_factory.mktemp("made") / "studies.db"
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        run_study(study="s", storage=f"sqlite:///{file}", trials=1, **TINY)
    return file


@pytest.fixture
def db(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The same, with the study's total raised to two."""
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect(made) as source, sqlite3.connect("studies.db") as copy:
        source.backup(copy)
    opened = open_database("sqlite:///studies.db")
    change(load(opened), trials=2)
    return opened


def load(db: Database) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=db.optuna)


def change(study: optuna.Study, **fields: Any) -> None:
    study.set_user_attr(SPEC, {**study.user_attrs[SPEC], **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"space": {"width": 10**9}},
        {"space": {"family": "resnet18", "side": 10**9}},
        {"space": {"initial_weights": "/etc/passwd"}},
        {"baseline": {"width": 10**9}},
        {"baseline": {"initial_weights": "x" * 5000}},
        {"dataset": "folder:/proc"},
        {"image_size": 10**9},
        {"trials": 10**30},
        {"arms": [7]},
    ],
    ids=str,
)
def test_an_impossible_stored_study_is_refused_before_a_trial(
    db: Database, fields: dict[str, Any]
) -> None:
    change(load(db), **fields)
    db.close()
    with pytest.raises(REFUSED) as refused:
        worker.main(WORK)
    assert len(str(refused.value)) < 1000
    assert len(load(db).get_trials()) == 1


def test_impossible_trials_fail_and_the_study_continues(db: Database) -> None:
    for overrides in ({"width": 10**9}, {"batch_size": "x"}, {"x": 1}, "x"):
        load(db).enqueue_trial({}, user_attrs={OVERRIDES: overrides})
    db.close()
    assert worker.main(WORK) == 0
    states = [trial.state.name for trial in load(db).get_trials()]
    assert states == ["COMPLETE", *["FAIL"] * 4, "COMPLETE"]
    assert study.main(["--status", "--study", "s"]) == 0


def test_its_exit_code_says_whether_to_start_a_worker_again(db: Database) -> None:
    db.close()
    assert worker.main([*WORK, "--max-seconds", "0.001"]) == 75
    assert worker.main(WORK) == 0
    assert worker.main([*WORK, "--max-seconds", "60"]) == 0


@pytest.mark.parametrize(
    ("work", "written"),
    [
        (lambda: worker.main(WORK), [4]),
        (lambda: worker.main([word for word in WORK if word != "--quiet"]), [4]),
        (lambda: work_for_study(LOCAL), []),  # a pool's, whose process writes it
    ],
)
def test_a_worker_writes_the_note_once_at_its_end(
    db: Database, monkeypatch: pytest.MonkeyPatch, work: Callable[[], int], written: list[int]
) -> None:
    change(load(db), trials=4)
    db.close()
    finished: list[int] = []

    def write(_study: object, view: StudyView) -> None:
        finished.append(view.finished)

    monkeypatch.setattr("search.dashboard.content.write_content", write)
    assert work() == 0
    assert finished == written


LOCAL = {"storage": "sqlite:///studies.db", "study": "s", "data_dir": Path(), "device": "cpu"}


@pytest.mark.parametrize("work", [lambda _: worker.main(WORK), lambda _: work_for_study(LOCAL)])
def test_an_outage_of_the_opened_database_asks_for_another_start(
    db: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], work: Any
) -> None:
    db.close()
    monkeypatch.setattr("search.store.opening.Database", partial(Database, patience_seconds=0.1))
    with closing(sqlite3.connect("studies.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SystemExit) as ended:
            run(work)
    assert ended.value.code == 75
    (line,) = [it for it in capsys.readouterr().err.splitlines() if it.startswith("error: ")]
    assert line.startswith("error: sqlite:///studies.db does not answer: another process keeps it ")
    assert line.endswith("resume with the same command")
    assert worker.main(WORK) == 0


@pytest.mark.parametrize(
    ("work", "code"),
    [(lambda _: worker.main(WORK), 75), (lambda _: work_for_study(LOCAL), 1)],
    ids=["alone", "of a pool, which counts such deaths"],
)
def test_a_lost_gpu_asks_for_another_start(
    db: Database, monkeypatch: pytest.MonkeyPatch, capsys: Any, work: Any, code: int
) -> None:
    db.close()
    told = DeviceLostError("this process has lost cuda:0")
    monkeypatch.setattr("search.running.worker.check_device", Mock(side_effect=told))
    monkeypatch.setattr(Training, "slices", Mock(side_effect=RuntimeError("CUDA error: unknown")))
    with pytest.raises(SystemExit) as ended:
        run(work)
    assert ended.value.code == code
    assert capsys.readouterr().err.count(f"{told}\n") == 1
    assert [trial.state.name for trial in load(db).get_trials()] == ["COMPLETE", "RUNNING"]


def test_a_worker_waits_for_a_server_and_asks_for_another_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    monkeypatch.setattr("search.store.opening.PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("search.store.opening.SILENT_SECONDS", 0.1)
    url = "postgresql://me@127.0.0.1:1/studies"
    with pytest.raises(SystemExit) as ended:
        run(lambda _: worker.main(["--storage", url, "--device", "cpu"]))
    assert ended.value.code == 75
    assert f"error: cannot open {url}: " in capsys.readouterr().err
    (waiting,) = caplog.messages
    assert waiting.startswith(f"cannot open {url}: ")
    assert "trying again for" in waiting


@pytest.mark.parametrize("number", ["../../x", -1, 1.5, None])
def test_an_invalid_trial_number_gives_no_path(number: Any) -> None:
    with pytest.raises(StorageError, match="the number"):
        checkpoint_path(Path(), number)


@pytest.mark.parametrize("facts", [None, {"name": "x"}, {"class_names": 10**9}], ids=str)
def test_invalid_dataset_facts_are_reported_in_a_line(db: Database, facts: object) -> None:
    load(db).set_user_attr(DATASET, facts)
    db.close()
    with pytest.raises(StorageError, match="study 's' cannot be read"):
        study.main(["--status", "--study", "s"])
