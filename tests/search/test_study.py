"""The study command as users run it: real processes and signals, where these matter."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna_dashboard import get_note

from data.datasets import DATASETS
from search import study, worker
from search.running.study import run_study
from search.spec import extensions
from search.spec.study_file import StudyFileError
from search.store.opening import open_database
from search.store.views import StudyView
from search.study import listing
from search.terminal.commands import LOADING
from tests.search.conftest import SAME, Call, Refused, children_of
from tests.search.long_studies import empty_studies

SHORT = ("--dataset", "digits", "--epochs", "2", "--limit", "200", "--workers", "1")
EXTENSION = """
import dataclasses
from data.datasets import DATASETS

DATASETS["mine"] = dataclasses.replace(DATASETS["digits"], description="digits of my own")
"""


@pytest.fixture
def site(make_site: Callable[..., Any]) -> Any:
    return make_site()


def goes_on(after: StudyView, before: StudyView) -> bool:
    """Whether `after` begins with all reports of `before`, bit for bit."""
    found = {trial.number: trial.reports for trial in after.trials}
    return all(
        found[trial.number][: len(trial.reports)] == trial.reports for trial in before.trials
    )


def test_a_study_from_scratch_and_its_status(site: Any) -> None:
    out, err = site.output_of(site.search(3, "--workers", "1", stderr=subprocess.PIPE))
    assert "3 of 3 trials" in out
    assert "search.finalize" in out
    assert "3/3 trials" in err  # the progress
    assert "resumes" not in err
    view = site.view()
    assert view.finished == 3
    assert view.baseline is not None
    assert (view.baseline.number, view.baseline.state) == (0, "complete")
    stored = optuna.load_study(study_name="s", storage=site.url)
    assert "3 of 3 trials finished" in get_note(stored)
    left = {path.name for path in site.folder.iterdir()}
    assert left - {"studies.db-wal", "studies.db-shm"} == {"runs", "small.toml", "studies.db"}
    assert "3 of 3" in site.run("search.study", "--status")[0]


def test_ctrl_c_and_the_same_command_again(
    site: Any, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the user's own file, which is in the help, in every worker, and kept with the study."""
    monkeypatch.setattr(extensions, "_loaded", {})  # other tests are to find neither
    monkeypatch.setitem(DATASETS, "mine", DATASETS["digits"])
    (site.folder / "mine.py").write_text(EXTENSION)
    # Trials so long that Ctrl-C finds at least one of the two workers in the middle of one.
    words = ("--epochs", "50", "--extension", "mine.py", "--dataset", "mine", "--trials")
    process = site.search(4000, *words, "4000", pruner="none", stderr=subprocess.PIPE)
    site.wait_for_reports(14)  # both have drawn their first pictures, which takes a second
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = site.output_of(process, 130, seconds=30)
    assert time.monotonic() - asked < 5
    assert "nothing is lost" in err
    assert "--trials 4000" in err  # how to resume
    before = site.view()
    assert before.finished < len(before.trials)
    total = len(before.trials) + 2  # 4000 would take too long

    assert "digits of my own" in call(site, study.main, *words, "16", "--help")[0]
    out, err = call(site, study.main, *SAME, *words, str(total))
    assert f"{total} of {total} trials" in out
    began = min(trial.started for trial in before.trials if trial.started is not None)
    so_far = f"begun on {began:%Y-%m-%d}, {total - 2} trials so far"
    assert f"resumes study 's', {so_far}; --study NAME begins another" in err
    after = site.view()
    assert after.finished == total
    assert after.dataset.name == "mine"
    assert not after.in_state("running", "interrupted")
    assert goes_on(after, before)
    (site.folder / "mine.py").write_text(EXTENSION + "\n")
    _, err = call(site, study.main, "--study", "s", "--trials", str(total + 1), code=2)
    assert re.fullmatch(r"[\d:]{8} Loading PyTorch \.{3}\nerror: .*mine.py has changed.*\n", err)


class Endless(BaseHTTPRequestHandler):
    """Answers with a byte a second."""

    asked, over = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.asked.set()
        with suppress(OSError):  # the client hangs up
            while not self.over.wait(1.0):
                self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endless() -> Iterator[str]:
    """The URL of a proxy that takes forever to answer."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Endless.over.set()
        server.shutdown()


def test_ctrl_c_while_it_downloads(
    site: Any, endless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", endless)
    process = site.start(
        *("search.study", "--workers", "2", "--data-dir", "data"), stderr=subprocess.PIPE
    )
    assert Endless.asked.wait(60)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = site.output_of(process, 130, seconds=30)
    assert time.monotonic() - asked < 5
    assert out == ""
    assert "Interrupted, nothing is lost. Resume with: python -m search.study --workers 2" in err
    assert "Traceback" not in err
    assert [path.name for path in site.folder.iterdir()] == ["data"]
    assert processes_in(site.folder) == set()


@pytest.mark.usefixtures("unseen")
def test_sigterm_interrupts_several_trials_of_a_process(site: Any, call: Call) -> None:
    words = ("--workers", "1", "--device", "cpu", "--epochs", "12")
    process = site.search(3, *words, "--trials-per-device", "3", pruner="none")
    site.wait_for_reports(9)
    asked = time.monotonic()
    process.terminate()
    out, _ = site.output_of(process, 128 + signal.SIGTERM, seconds=30)
    assert time.monotonic() - asked < 5
    assert "Traceback" not in out
    assert [trial.state for trial in site.view().trials] == ["interrupted"] * 3
    assert site.held() == 0
    before = site.view()

    call(site, study.main, *SAME, *words, "--trials-per-device", "2")
    view = site.view()
    assert view.finished == len(view.trials) == 3
    assert site.held() == 0
    assert all([row.epoch for row in trial.reports] == list(range(13)) for trial in view.trials)
    assert goes_on(view, before)


@pytest.mark.usefixtures("unseen")
def test_a_time_limit_loses_nothing_and_a_worker_joins_with_only_the_url(
    site: Any, call: Call
) -> None:
    site.write_config(4000, "halving")
    for seconds in (3, 9, 27, 81):  # until a trial has ended, on a machine however slow
        call(site, study.main, *SAME, "--timeout", f"{seconds}s")
        if (before := site.view()).finished:
            break
    assert 0 < before.finished < 4000
    with closing(open_database(site.url)) as db:
        stored = optuna.load_study(study_name="s", storage=db.optuna)
        total = before.finished + 2
        stored.set_user_attr("spec", {**stored.user_attrs["spec"], "trials": total})
    call(site, worker.main, "--storage", site.url, "--study", "s")
    assert site.view().finished == total
    assert goes_on(site.view(), before)


def processes_in(folder: Path) -> set[int]:
    """The ids of those that were started there, or by one that was; not of this one."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has just ended, or is another user's
            if process.pid != os.getpid() and process.cwd() == str(folder):
                found.add(process.pid)
    return found


@pytest.mark.usefixtures("unseen")
def test_no_worker_is_left_behind(site: Any, call: Call) -> None:
    """Neither by a mistake, nor by a sudden death while one trains and another loads its libraries.
    The study can be resumed."""
    mistake = ("--study", "t", "--dataset", "npz:none.npz", "--workers", "2")
    assert "none.npz" in call(site, study.main, *mistake, code=2)[1]
    assert processes_in(site.folder) == set()
    process = site.search(4000, "--workers", "2")
    site.wait_for_reports(3)
    before = processes_in(site.folder)
    children_of(process)[0].kill()
    deadline = time.monotonic() + 60
    while not processes_in(site.folder) - before:  # another takes the place of the dead one
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    while left := processes_in(site.folder) - {process.pid}:
        assert time.monotonic() < deadline + 30, left
        time.sleep(0.1)
    site.finish(total := site.view().finished + 2)
    assert site.view().finished == total


@pytest.mark.usefixtures("no_network", "unseen")
def test_without_data_and_network_it_runs_on_digits_and_says_so(site: Any, call: Call) -> None:
    small = ("--trials", "1", "--epochs", "1", "--workers", "1")
    out, err = call(site, study.main, *small, "--data-dir", str(site.folder / "none"))
    assert "digits" in out
    assert "Fashion-MNIST is unavailable" in err
    assert "Fashion-MNIST is unavailable" in out
    assert site.view("digits").dataset.name == "digits"


@pytest.mark.usefixtures("unseen")
def test_a_comparison_and_more_repeats_of_it(site: Any, call: Call) -> None:
    name = "c_optimizers-digits-limit200"
    small: dict[str, Any] = {"dataset": "digits", "epochs": 2, "limit": 200, "workers": 1}
    run_study("c_optimizers", repeats=1, storage=site.url, progress=False, **small)
    first = site.view(name)
    assert first.finished == 2
    out, _ = call(site, study.main, "--study", name, "--repeats", "3", "--workers", "1")
    assert "6 of 6 trials" in out
    view = site.view(name)
    assert [(trial.arm, trial.repeat) for trial in view.trials] == [
        (arm, repeat) for repeat in range(3) for arm in ("Adam", "SGD")
    ]
    assert [trial.curve for trial in view.trials[:2]] == [trial.curve for trial in first.trials]
    assert view.trials[1].params == {"arm": "SGD", "repeat": 0}
    assert (view.spec.repeats, view.spec.trials, view.spec.limit) == (3, 6, 200)
    assert {trial.config.recipe.optimizer for trial in view.trials[1::2] if trial.config} == {"sgd"}


def test_a_dry_run_and_the_list_write_nothing(
    site: Any, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.terminal.forecast.epoch_seconds", lambda *_: 1.0)
    out, err = call(site, study.main, "--config", "c_networks", *SHORT, "--dry-run")
    assert len(err.splitlines()) == 1  # that it loads PyTorch
    assert "c_networks-digits-limit200" in out
    assert "3 arms x 3 repeats of up to 2 epochs" in out
    for arm in ("MLP", "CNN", "CNN, batch norm"):
        assert f"\n{arm}: " in out
    assert 'family = "mlp", hidden = [256, 128], dropout = 0.2' in out
    assert "workers on this machine" not in out
    out, _ = call(site, study.main, "--config", "c_networks", *SHORT, "--dry-run", "--ray", "auto")
    assert "The time is for workers on this machine; those on Ray may be more, or faster." in out
    ray = ("--ray", "auto", "--device", "cpu", "--dry-run")
    assert "with --ray, --gpus-per-worker" in call(site, study.main, *SHORT, *ray, code=2)[1]
    assert call(site, study.main, "--list") == (f"{listing()}\n", "")
    assert list(site.folder.iterdir()) == []


def test_the_status_of_the_study_that_the_options_name(
    here: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    names = ("a4_dropout", "mnist-limit70", "other", "small-digits")
    empty_studies(here, *names)
    options = ("--config a4_dropout", "--dataset mnist --limit 70", "--dataset mnist --study other")
    for name, words in zip(names[:3], options, strict=True):
        assert study.main(["--status", *words.split()]) == 0
        assert capsys.readouterr().out.startswith(f"Study {name}: ")
    assert "no study 'digits'" in refused(study.main, ["--status", "--dataset", "digits"])
    # Without Fashion-MNIST, such a study was made of digits.
    assert study.main(["--status", "--config", "small"]) == 0
    assert capsys.readouterr().out.startswith("Study small-digits: ")
    assert "no study 'fast-fashion_mnist'" in refused(study.main, ["--status", "--config", "fast"])
    # With its name, the study's file and other options are not read: they may have moved.
    moved = "--config moved.toml --dataset gone --enqueue gone.toml --status --study other"
    assert study.main(moved.split()) == 0
    assert capsys.readouterr().err == ""
    with pytest.raises(StudyFileError):
        study.main(["--config", "moved.toml"])
    assert LOADING in capsys.readouterr().err  # which comes first
    assert "not usable" in refused(study.main, ["--status", "--study", "a/b"])
