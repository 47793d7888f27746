"""A real study, looked at in a real browser: what a person sees in the dashboard.

Screenshots of every page, light and dark, are made where $SCREENSHOTS names a folder for them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.figures import dashboard_figures
from search.store.opening import open_database
from search.store.reading import view_study
from search.store.studies import require_study
from search.store.views import StudyView

ROOT = Path(__file__).parents[2]
STUDY = """\
[study]
title = "What <b>people</b> see"
dataset = "digits"
trials = 5
epochs = 3
limit = 400

[space]
depth = { low = 1, high = 3 }
width = { low = 8, high = 16 }
learning_rate = { low = 1e-3, high = 3e-2, log = true }
weight_decay_kind = ["none", "l2", "decoupled"]
dropout = { low = 0.0, high = 0.5 }
augmentation = ["none", "flip-crop", "rotate-jitter-erase"]
hidden = [32]

[baseline]
learning_rate = 1e30
"""
Run = Callable[..., subprocess.Popen[str]]
Shoot = Callable[[str], None]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts a command in the test's folder."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Pages:
    """The dashboard's pages in a browser."""

    def __init__(self, browser: Any, url: str, folder: Path) -> None:
        self._browser, self._url, self._folder = browser, url, folder
        self._kept = "SCREENSHOTS" in os.environ

    def open(self, page: str) -> None:
        self._browser.get(f"{self._url}dashboard{page}")

    def wait_for(self, condition: str) -> Any:
        """The value of the expression in JavaScript, as soon as it is true."""
        deadline = time.monotonic() + 40
        while not (found := self._browser.execute_script(f"return {condition}")):
            assert time.monotonic() < deadline, f"not seen: {condition}\n{self.text}"
            time.sleep(0.1)
        return found

    @property
    def text(self) -> str:
        text: str = self._browser.execute_script("return document.body.innerText")
        return text

    def shoot(self, name: str) -> None:
        """A picture of the page in each of the two colour schemes, where they are wanted."""
        if not self._kept:
            return
        for scheme in ("dark", "light"):
            self._browser.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
            )
            time.sleep(0.5)  # plots are drawn anew
            path = self._folder / f"{name}-{scheme}.png"
            assert self._browser.save_screenshot(str(path))
            assert path.stat().st_size > 10_000, f"{path} is empty"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = Path(os.environ.get("SCREENSHOTS", tmp_path / "screenshots"))
    found.mkdir(parents=True, exist_ok=True)
    return found


def read(folder: Path) -> StudyView:
    with closing(open_database(f"sqlite:///{folder / 'studies.db'}", must_exist=True)) as db:
        return view_study(require_study(db, "digits"))


def test_what_people_see_of_a_study(run: Run, browser: Any, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "seen.toml").write_text(STUDY)
    search = run("search.study", "--config", "seen.toml", "--study", "digits", "--seed", "1")
    _, told = search.communicate(timeout=240)
    assert search.returncode == 0, told
    view = read(tmp_path)
    best, failed = view.best, view.trials[0]
    assert best is not None
    dashboard = run("search.dashboard", "--port", "0")
    assert dashboard.stdout is not None
    pages = Pages(browser, dashboard.stdout.readline().strip(), folder)

    pages.open("")
    pages.wait_for("document.body.innerText.includes('digits')")
    pages.shoot("studies")

    # All figures of ours are drawn among the dashboard's own.
    pages.open("/studies/1")
    titles = "[...document.querySelectorAll('.gtitle')].map(title => title.textContent)"
    drawn = dashboard_figures(view)
    assert len(drawn) == 5
    expected = {figure.layout.title.text for figure in drawn.values()}
    pages.wait_for(f"{titles}.length >= {len(drawn)}")
    assert expected <= set(pages.wait_for(titles))
    assert f"{view.finished} of 5 trials finished" in pages.text
    pages.shoot("study")
    for name in sorted(expected):
        browser.execute_script(
            "[...document.querySelectorAll('.gtitle')].find(t => t.textContent === arguments[0])"
            ".scrollIntoView({block: 'center'})",
            name,
        )
        pages.shoot(name.split(",")[0].lower().replace(" ", "-"))

    pages.open("/studies/1/analytics")
    pages.wait_for("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 4")
    pages.shoot("analytics")

    pages.open("/studies/1/note")
    pages.wait_for("document.body.innerText.includes('Best trials')")
    note = pages.text
    for seen in (
        "What <b>people</b> see",  # as typed
        "Done: 5 of 5 trials finished",
        f"Best is trial {best.number}: loss {best.best.validation_loss:.4f}",  # type: ignore[union-attr]
        "digits, 400 training and 287 validation images",
        "Trial 0 failed: diverged",
        "Not evaluated yet.",
        "python -m search.finalize --study digits",
    ):
        assert seen in note
    pages.shoot("note")

    pages.open("/studies/1/trials")
    pages.wait_for("document.body.innerText.includes('Trial 4')")
    pages.shoot("trials")

    pages.open(f"/studies/1/trials?numbers={best.number}")
    images = "[...document.querySelectorAll('img')].filter(i => i.src.includes('/artifacts/'))"
    pages.wait_for(f"{images}.length === 2")
    pages.wait_for(f"{images}.every(image => image.complete && image.naturalWidth > 200)")
    for seen in ("learning curves.png", "confusion matrix.png", "accuracy", "parameters"):
        assert seen in pages.text
    pages.shoot("trial")
    browser.execute_script(f"{images}[0].scrollIntoView({{block: 'center'}})")
    pages.shoot("artifacts")

    pages.open(f"/studies/1/trials?numbers={failed.number}")
    pages.wait_for("document.body.innerText.includes('Failed: diverged')")
    pages.shoot("failed")

    log = [entry["message"] for entry in browser.get_log("browser")]
    assert not [line for line in log if "Content Security Policy" in line]
    dashboard.send_signal(signal.SIGTERM)
    assert dashboard.wait(20) == 143
