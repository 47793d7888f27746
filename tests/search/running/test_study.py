"""`from search import ...`: studies run and read from Python, just as the commands do."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy
import optuna
import pandas
import pytest
import torch

from data.extensions import kept_registries
from search import report, study
from search.final.final import finalise
from search.running.exports import export_study
from search.running.request import read_request
from search.running.results import Study, load_study, study_figures
from search.running.study import run_study, what_a_seed_costs
from search.spec.config import StudySpec
from search.spec.domains import SpecError
from search.spec.study_file import StudyFileError
from search.store import StorageError
from tests.search.running.made_up import TINY

INTERRUPTED = """
import sys, search
assert set(search.__all__) <= set(dir(search))
assert not {"torch", "optuna", "sqlalchemy"} & set(sys.modules)
import os
assert os.environ["OMP_WAIT_POLICY"]
from search import predict, study
assert callable(predict) and hasattr(study, "main")
for name in search.__all__:
    function = getattr(search, name)
    for word in ("Args:", "Example:", ">>> "):
        assert word in function.__doc__, (name, word)
    assert "Returns:" in function.__doc__ or "Raises:" in function.__doc__, name
assert not hasattr(search, "studio")

from search import run_study
options = {"study": "digits", "trials": 200, "epochs": 9, "limit": 400, "seed": 0}
try:
    run_study(dataset="digits", space={"depth": 1, "width": 16, "hidden": []}, **options,
              runs_dir="data/runs", workers=2, progress=False)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def learned(view: Study) -> list[dict[str, Any]]:
    """Every epoch, without its time."""
    return [{**row, "seconds": None} for row in view.to_pandas("epochs").to_dict("records")]


@pytest.mark.usefixtures("unseen")
def test_command_and_function_do_the_same(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = load_study("digits")
    monkeypatch.chdir(tmp_path)
    words = ["--config", str(place / "tiny.toml"), "--study", "digits", "--dataset", "digits"]
    assert study.main([*words, "--trials", "3", "--epochs", "2", "--seed", "0"]) == 0
    theirs = load_study()
    assert ours.spec == theirs.spec
    assert len(learned(ours)) > 0
    assert learned(ours) == learned(theirs)


def test_numbers_may_be_numpys() -> None:
    rate = {"low": 1e-3, "high": 1e-2, "log": True}
    space: dict[str, Any] = {"depth": 2, "width": [8, 9, 10], "learning_rate": rate}
    given: dict[str, Any] = {"dataset": "digits", "trials": 3, "seed": 1, "workers": 2}
    given |= {"continue_trials": 1, "enqueue": {"depth": 2}}
    wanted = read_request(None, given, space=space)
    frame = pandas.DataFrame({"depth": [2], "trial": [1]})
    rate = {**rate, "low": numpy.float64(1e-3)}
    space = {"depth": frame.depth.iloc[0], "width": numpy.arange(8, 11), "learning_rate": rate}
    given |= {name: numpy.int64(given[name]) for name in ("trials", "seed", "workers")}
    given |= {"continue_trials": frame.trial.iloc[0], "enqueue": {"depth": frame.depth.iloc[0]}}
    assert read_request(None, given, space=space) == wanted
    assert read_request(None, given, space={**space, "width": range(8, 11)}) == wanted
    for trials in (frame.trial, [frame.trial.iloc[0]]):
        given["continue_trials"] = trials
        assert read_request(None, given).continue_trials == [1]
    with pytest.raises(SpecError, match="give a study, as load_study returns it, but got 'q'"):
        study_figures("q")  # type: ignore[arg-type]


@pytest.mark.usefixtures("unseen")
def test_a_new_study_refuses_a_network_in_several_files(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "mynet.py").write_text(
        "from contextlib import suppress\nfrom torch import nn\nwith suppress(ImportError):\n"
        "    import our_stem\n\n"
        "def build(image_shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    given: dict[str, Any] = {**TINY, "trials": 1, "space": {"family": "mynet.py:build"}}
    said = f"mynet.py imports {here}/our_stem.py, which .*; put its code into mynet.py, or install"
    with kept_registries():
        run_study(study="earlier", **given)
        (here / "our_stem.py").touch()
        monkeypatch.syspath_prepend(here)
        with pytest.raises(SpecError, match=said):
            run_study(study="new", **given)
        assert run_study(study="earlier", **given).finished == 1
        with pytest.raises(StorageError, match="new"):
            load_study("new")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trials": 0}, "trials must be a whole number from 1 to 1000000, but got 0"),
        ({"workers": True}, "workers must be a whole number from 1 to 10000, but got True"),
        ({"timeout": math.nan}, "timeout must be seconds above 0, at most a year, but got nan"),
        ({"timeout": math.inf}, "timeout must be seconds above 0, at most a year, but got inf"),
        ({"timeout": "5m"}, "timeout must be seconds above 0, at most a year, but got '5m'"),
        ({"timeout": True}, "timeout must be seconds above 0, at most a year, but got True"),
        ({"extensions": "mine.py"}, "mine.py"),
        ({"enqueue": 3}, "enqueue is not usable: 3; write"),
        ({"continue_trials": 2.5}, "trial 2.5 cannot be continued"),
        *(
            ({"warm_start": it}, "warm_start must be a study's name or URL#NAME, but got ")
            for it in (5, Path("x"), ["x", {}], StudySpec(dataset="digits"))
        ),
        ({"study": 5}, "study name 5 is not usable"),
        ({"storage": Path("studies.db")}, r"storage must be a URL, .*\(.studies\.db.\)"),
        ({"dataset": Path("photos")}, r"dataset must be text \(.*folder:PATH.*\('photos'\)"),
        ({"dataset": (numpy.eye(9), [1])}, "dataset must be text"),
        ({"ray": True}, "ray must be an address, such as auto or local, but got True"),
        ({"space": {"family": dict}}, r"kind of network; FILE\.py:FUNCTION for your own.* 'dict'"),
        ({"space": [1]}, r"space must be a table of parameters, but got \[1\]"),
        ({"study": "../x"}, "not usable"),
        ({"space": {"depht": 2}}, "unknown parameter 'depht'"),
        ({"space": TINY["space"], "config": "a4_dropout"}, "this study compares"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        *(
            ({"stop_when_flat": it}, "must be a number above 0")
            for it in (0, -1.0, math.nan, "much")
        ),
    ],
)
def test_bad_arguments_end_before_anything_is_written(
    wrong: dict[str, Any], said: str, here: Path
) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        run_study(**{"dataset": "digits", **wrong})
    assert len(str(refused.value).splitlines()) == 1
    assert not isinstance(refused.value, StudyFileError)  # it stems from no file
    assert list(here.iterdir()) == []


def test_a_file_of_configurations_may_be_a_path() -> None:
    with pytest.raises(StudyFileError, match=r"mine\.toml: cannot be read"):
        run_study(dataset="digits", enqueue=Path("mine.toml"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: run_study(dataset="digits", trials=1, workers=1),
        load_study,
        lambda: export_study(to="x"),
        finalise,
    ],
)
def test_the_environment_names_database_and_checkpoints(
    call: Callable[[], object], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEARCH_STORAGE", "mysql://host/db")
    with pytest.raises(StorageError, match="'mysql://host/db' is not a usable database"):
        call()
    monkeypatch.setenv("SEARCH_STORAGE", "sqlite:///other.db")
    monkeypatch.setenv("SEARCH_CHECKPOINTS", "nowhere://x")
    with pytest.raises(
        StorageError, match=r"keep checkpoints in nowhere://x|open sqlite:///other.db"
    ):
        call()
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("written", "flat", "said"),
    [
        (
            '"parameters"\npruner = "halving"',
            None,
            "minimize_also and pruner 'halving', which stops small",
        ),
        ('"parameters"\npruner = "promotion"', 0.01, "stop_when_flat is for a search for one best"),
        ('"parameters"\n[[arm]]\nname = "a"', None, "minimize_also is only for a search"),
        ('"seconds"', None, "minimize_also .*parameters"),
    ],
)
def test_invalid_searches_for_a_pareto_front(
    written: str, flat: float | None, said: str, here: Path
) -> None:
    space = "[space]\ndepth = { low = 1, high = 2 }\n"
    (here / "mine.toml").write_text(f"[study]\nminimize_also = {written}\n{space}")
    with pytest.raises(ValueError, match=said):
        run_study("mine.toml", dataset="digits", stop_when_flat=flat)
    assert [path.name for path in here.iterdir()] == ["mine.toml"]


@pytest.mark.usefixtures("here", "unseen")
def test_a_substitute_for_the_data_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = "search.running.run.choose_dataset"
    monkeypatch.setattr(choose, lambda _: ("digits", "no network"))
    said = r"is unavailable: no network\. This study runs on digits"
    with pytest.warns(UserWarning, match=said) as told:
        view = run_study(trials=1, **{**TINY, "dataset": None})
    assert told[0].filename == __file__
    assert view.dataset.name == "digits"


@pytest.mark.usefixtures("here", "unseen")
def test_stopped_from_another_thread() -> None:
    """In a thread of its own, where no signal handler could be installed."""
    stop = threading.Event()
    with ThreadPoolExecutor() as threads:
        options = {**TINY, "study": "s", "trials": 3, "epochs": 2000, "stop": stop}
        found = threads.submit(run_study, **options)
        while not Path("runs/s/checkpoints").exists():  # it trains
            time.sleep(0.05)
            assert not found.done()
        stop.set()
        assert found.result(60).finished < 3


def test_interrupted_it_releases_its_trials_and_resumes(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """From a script without a `__main__` guard, whose two workers do not run it again. Functions
    are imported on demand, nothing is printed, and every file is where the script wants it."""
    command = [sys.executable, "-u", "-c", INTERRUPTED]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        deadline = time.monotonic() + 100
        runs = here / "data" / "runs"
        while process.poll() is None and time.monotonic() < deadline:
            if (runs / "digits/checkpoints").exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("interrupted\n", "")
    assert not (here / "runs").exists()
    before = load_study("digits")
    assert learned(before)
    assert before.finished < 200
    # An interrupted trial is free at once, not only when its holder's lease expires.
    with closing(sqlite3.connect(here / "studies.db")) as connection:
        held = "SELECT count(*) FROM leases WHERE expires_at > 0"
        assert connection.execute(held).fetchone() == (0,)
    total = max(before.finished + 1, before.count())
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        view = run_study(study="digits", trials=total, runs_dir=runs, workers=1, progress=False)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert torch.get_num_threads() == 1
    assert capfd.readouterr() == ("", "")
    assert view.finished == view.spec.trials == total
    assert (view.spec.seed, view.spec.epochs) == (0, 9)
    assert {path.name for path in runs.iterdir()} == {"digits", "artifacts", ".lock"}
    now = {(row["trial"], row["epoch"]): row["validation_loss"] for row in learned(view)}
    for row in learned(before):
        assert now[row["trial"], row["epoch"]] == row["validation_loss"]


@pytest.mark.usefixtures("place")
def test_tables_match_the_view() -> None:
    view = load_study()
    table, epochs = (view.to_pandas(it).to_dict("records") for it in ("trials", "epochs"))
    assert [row["trial"] for row in table] == [0, 1, 2]
    assert len({tuple(row) for row in table}) == len({tuple(row) for row in epochs}) == 1
    for row, trial in zip(table, view.trials, strict=True):
        assert (row["state"], row["parameters"]) == (trial.state, trial.parameters)
        assert row["arm"] is row["repeat"] is None
        assert row["baseline"] == (trial.number == 0)
        assert all(row[f"params_{name}"] == value for name, value in trial.params.items())
        own = [epoch for epoch in epochs if epoch["trial"] == row["trial"]]
        assert [epoch["epoch"] for epoch in own] == list(range(1, row["epochs"] + 1))
        if trial.best is None:
            assert pandas.isna([row["validation_loss"], row["best_epoch"]]).all()
        else:
            assert row["validation_loss"] == trial.best.validation_loss
            assert row["value"] == min(epoch["value"] for epoch in own) == trial.best.value
            assert row["validation_accuracy"] == 1 - trial.best.validation_error
            assert row["best_epoch"] == trial.best.epoch
    assert view.to_pandas()["validation_loss"].dtype == "float64"


def test_figures_match_the_report(place: Path) -> None:
    assert report.main(["--study", "digits", "--formats", "svg"]) == 0
    written = {file.stem for file in (place / "runs" / "digits" / "figures").iterdir()}
    shown = study_figures(load_study("digits"))
    assert set(shown) == written
    assert {"history", "curves", "parameters"} <= written
    # Changing one does not affect those of the next call.
    shown["curves"].update_layout(title_text="mine")
    assert study_figures(load_study("digits"))["curves"].layout.title.text != "mine"


@pytest.mark.usefixtures("place")
def test_missing_studies() -> None:
    with pytest.raises(StorageError, match="no study 'digit'"):
        load_study("digit")
    with pytest.raises(SpecError, match="not usable"):
        load_study("../digits")
    with pytest.raises(StorageError, match="no such file"):
        load_study(storage="sqlite:///nowhere.db")
    assert not Path("nowhere.db").exists()


@pytest.mark.parametrize(
    ("flags", "device", "told"),
    [
        ({"seed": 1}, "cpu", "--workers 2"),
        ({"seed": 1}, "cuda", "--trials-per-device 4"),
        ({"seed": 1, "workers": 2}, "cpu", ""),
        ({"seed": 1, "trials_per_device": 4}, "cuda", ""),
        ({}, "cpu", ""),
    ],
)
def test_it_says_that_with_a_seed_trials_run_one_at_a_time(
    flags: dict[str, Any], device: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.running.study.default_workers", lambda _: 2)
    said = what_a_seed_costs(read_request(None, flags), torch.device(device))
    assert told in "".join(said)
    assert bool(said) == bool(told)
