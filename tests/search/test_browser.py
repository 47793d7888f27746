"""A real study in a real browser: what users see in the dashboard."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.figures import dashboard_figures
from search.figures.study import learning_curves
from search.pages.render import page
from search.running.study import run_study
from search.terminal.summary import score_in_words
from tests.search.made_up_views import comparison_view
from tests.search.test_dashboard import blocked, settled, start, stop

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
hidden = [32]

[baseline]
learning_rate = 1e30
"""


def narrow(browser: Any, width: int) -> None:
    size = {"width": width, "height": 1600, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_titles_of_the_panels_of_arms_cover_nothing(browser: Any, tmp_path: Path) -> None:
    names = [f"a baseline with a long name that describes it, number {i}" for i in range(3)]
    view = comparison_view({name: [0.5, 0.6] for name in names})
    figure = learning_curves(view).update_layout(width=584, height=450)
    (tmp_path / "page.html").write_text(page("", "![two panels](figures/a)", {"a": figure}))
    browser.get((tmp_path / "page.html").as_uri())
    settled(browser, "document.querySelector('.legendtext')")
    boxes = "[...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect())"
    left, *_ = browser.execute_script(f"return {boxes}", ".cartesianlayer .gridlayer")
    (title,) = browser.execute_script(f"return {boxes}", ".y2title")
    (above,) = browser.execute_script(f"return {boxes}", ".gtitle-subtitle")
    assert left["width"] > 150
    assert title["left"] > left["right"]
    assert title["top"] > above["bottom"]


def test_what_users_see_of_a_study(make_site: Callable[..., Any], browser: Any) -> None:
    site = make_site()
    (site.folder / "seen.toml").write_text(STUDY)
    where = {"storage": site.url, "runs_dir": site.folder / "runs"}
    view = run_study(site.folder / "seen.toml", study="digits", seed=1, progress=False, **where)
    best = view.best
    assert best is not None
    process, url = start(site)
    text = "document.body.innerText"

    def see(page: str, *seen: str) -> str:
        """The text of the page, once it contains all of `seen`."""
        browser.get(f"{url}dashboard{page}")
        for words in seen:
            settled(browser, f"{text}.includes({words!r})")
        shown: str = browser.execute_script(f"return {text}")
        return shown

    see("", "digits")
    see("/studies/1", f"{view.finished} of 5 trials finished")
    titles = "[...document.querySelectorAll('.gtitle')].map(title => title.textContent)"
    expected = {figure.layout.title.text for figure in dashboard_figures(view).values()}
    settled(browser, f"{titles}.length >= {len(expected)}")
    assert expected <= set(browser.execute_script(f"return {titles}"))
    see(
        "/studies/1/note",
        "What <b>people</b> see",  # as typed
        "Done: 5 of 5 trials finished",
        f"Best is trial {best.number}: {score_in_words(best, view)}",
        "digits, 400 training and 287 validation images",
        "Trial 0 failed: diverged",
        "Not evaluated yet.",
        "python -m search.finalize --study digits",
    )
    narrow(browser, 360)
    ends = "[...document.querySelectorAll('main p')].map(p => p.getBoundingClientRect().right)"
    assert 0 < browser.execute_script(f"return Math.max(...{ends})") <= 360
    narrow(browser, 1400)
    see("/studies/1/trials", "Trial 4")
    see(
        f"/studies/1/trials?numbers={best.number}",
        *("learning curves.png", "confusion matrix.png", "accuracy", "parameters"),
    )
    images = "[...document.querySelectorAll('img')].filter(i => i.src.includes('/artifacts/'))"
    settled(browser, f"{images}.length === 2")
    settled(browser, f"{images}.every(image => image.complete && image.naturalWidth > 200)")
    assert not blocked(browser)
    assert stop(process, signal.SIGTERM)[0] == 143
