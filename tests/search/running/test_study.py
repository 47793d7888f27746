"""run_study: the same as the command, from Python."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from search import study
from search.running.results import epochs_table, load_study
from search.running.study import run_study
from search.spec.domains import SpecError
from search.spec.study_file import StudyFileError
from search.store.views import StudyView

SMALL: dict[str, Any] = {"dataset": "digits", "trials": 3, "epochs": 2, "seed": 0}
SPACE: dict[str, Any] = {
    "depth": 1,
    "width": (8, 16),
    "hidden": [(32,), (16, 16)],
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
}
INTERRUPTED = """
from search import run_study
try:
    run_study(dataset="digits", trials=3, epochs=40, seed=0)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def learned(view: StudyView) -> list[dict[str, Any]]:
    """Every epoch, without its time."""
    return [{**row, "seconds": None} for row in epochs_table(view)]


@pytest.mark.usefixtures("place")
def test_command_and_function_do_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = load_study("digits")
    monkeypatch.chdir(tmp_path)
    words = ["--dataset", "digits", "--trials", "3", "--epochs", "2", "--seed", "0"]
    assert study.main(words) == 0
    theirs = load_study()
    assert ours.spec == theirs.spec
    assert len(learned(ours)) > 0
    assert learned(ours) == learned(theirs)


def test_it_goes_on_and_says_nothing_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        assert run_study(**{**SMALL, "trials": 1}, progress=False).finished == 1
        view = run_study(study="digits", trials=2, progress=False, workers=2)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert view.finished == view.spec.trials == 2
    assert view.spec.seed == 0
    assert torch.get_num_threads() == 1
    assert capfd.readouterr() == ("", "")


def test_a_space_is_that_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        '[study]\ndataset = "digits"\ntrials = 1\nepochs = 1\npatience = 3\n[space]\ndepth = 1\n'
        "width = [8, 16]\nhidden = [[32], [16, 16]]\n"
        "learning_rate = { low = 1e-3, high = 1e-2, log = true }\n"
    )
    of_file = run_study("mine.toml", study="a", progress=False, workers=1)
    of_dict = run_study(
        study="b", dataset="digits", trials=1, epochs=1, space=SPACE, progress=False, workers=1
    )
    assert of_dict.spec == of_file.spec
    assert of_dict.trials[0].params.keys() == {"width", "hidden", "learning_rate"}
    # It goes on with the same space, or without a word of it, but not with another.
    for space in (SPACE, None):
        again = run_study(
            study="b", dataset="digits", space=space, trials=1, workers=1, progress=False
        )
        assert again.finished == 1
    with pytest.raises(SpecError, match="was made with space"):
        run_study(study="b", dataset="digits", space={**SPACE, "depth": 2})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trials": 0}, "trials must be a whole number of at least 1, but got 0"),
        ({"workers": 0}, "workers must be a whole number from 1 up, but got 0"),
        ({"workers": True}, "workers must be a whole number from 1 up, but got True"),
        ({"trials_per_device": 1.5}, "trials_per_device must be a whole number"),
        ({"timeout": 0}, "timeout must be seconds above 0, but got 0"),
        ({"timeout": float("nan")}, "timeout must be seconds above 0, but got nan"),
        ({"study": "../x"}, "not usable"),
        ({"space": {"depht": 2}}, "unknown parameter 'depht'"),
        ({"space": {"depth": "deep"}}, "depth"),
        ({"space": {"learning_rate": {"low": 1, "high": 0}}}, "learning_rate"),
        ({"space": {"learning_rate": -1.0}}, "learning_rate"),
        ({"space": SPACE, "config": "a4_dropout"}, "this study compares"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_bad_arguments_end_before_anything_is_written(
    wrong: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said) as refused:
        run_study(**{"dataset": "digits", **wrong})
    assert len(str(refused.value).splitlines()) == 1
    assert not isinstance(refused.value, StudyFileError)  # it stems from no file
    assert list(tmp_path.iterdir()) == []


def test_a_substitute_for_the_data_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "search.running.planning.choose_dataset", lambda _: ("digits", "no network")
    )
    with pytest.warns(UserWarning, match=r"could not be had: no network\. This study runs on digi"):
        view = run_study(trials=1, epochs=1, seed=0, progress=False)
    assert view.dataset.name == "digits"


def test_stopped_from_another_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of its own, where no signal handler could be installed."""
    monkeypatch.chdir(tmp_path)
    stop, views = threading.Event(), list[StudyView]()

    def search() -> None:
        views.append(run_study(**{**SMALL, "epochs": 200}, stop=stop, progress=False))

    thread = threading.Thread(target=search)
    thread.start()
    time.sleep(0.5)
    stop.set()
    thread.join(60)
    assert views
    assert views[0].finished < 3


def test_interrupted_it_lays_aside_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-u", "-c", INTERRUPTED]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        deadline = time.monotonic() + 100
        while not (Path("runs/digits/checkpoints").exists() or time.monotonic() > deadline):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert out == "interrupted\n"
    before = load_study("digits")
    reported = learned(before)
    assert reported
    assert before.finished < 3
    # A trial laid aside is free at once, and not only when its holder's lease runs out.
    started = time.monotonic()
    view = run_study(
        dataset="digits", trials=before.finished + 1, epochs=40, seed=0, progress=False
    )
    assert time.monotonic() - started < 60
    assert view.finished == before.finished + 1
    keys = {(row["trial"], row["epoch"]): row["validation_loss"] for row in learned(view)}
    for row in reported:
        assert keys[row["trial"], row["epoch"]] == row["validation_loss"]
