"""The command on real, small studies: what it writes, and what it says."""

import html
import ntpath
import os
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
import pytest

from search import report, study
from search.pages.render import head, page, row
from search.pages.report import write_index
from search.store.views import StudyView
from tests.conftest import draw_nothing
from tests.search.conftest import Refused
from tests.search.test_dashboard import settled

COMPARISON = """
[study]
title = "Dropout on digits"
dataset = "digits"
epochs = 2
limit = 300
repeats = 2

[space]
channels = [4]
hidden = [16]
schedule = "constant"

[[arm]]
name = "none"
reported = { validation_loss = 0.2 }

[[arm]]
name = "absurd"
learning_rate = 1e30
optimizer = "sgd"

[[journal]]
objective = "See whether the learning rate can be absurd."
hypothesis = "It cannot."
expect = [{ arm = "absurd", than = "none", metric = "validation_loss", is = "worse" }]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a comparison, one arm of which diverges, and a search."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "dropout.toml").write_text(COMPARISON)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw_nothing(patch)
        study.main(["--config", "dropout.toml", "--study", "dropout", "--workers", "1"])
        few = ["--dataset", "digits", "--trials", "3", "--epochs", "2", "--limit", "300"]
        study.main([*few, "--study", "digits", "--workers", "1"])
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_a_comparison(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--study", "dropout", "--formats", "svg"]) == 0
    assert capsys.readouterr().out == (
        "supported: It cannot.\n"
        "Written to runs/dropout: report.html, report.md and 2 files in figures/\n"
        "Next: python -m search.finalize --study dropout\n"
    )
    text = (place / "runs/dropout/report.md").read_text()
    assert "diverged in every seed" in text
    assert "### Entry 1: supported" in text
    assert re.search(r"\| none \| 2 \| [\d.]+ ± [\d.]+ \|", text)


def test_a_search_is_the_latest_study(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main(["--formats", "png", "svg"]) == 0
    assert capsys.readouterr().out.startswith("Written to runs/digits: ")
    folder = place / "runs/digits"
    assert (folder / "report.html").stat().st_size > 4_000_000
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".svg"}
    text = (folder / "report.md").read_text()
    assert "| &#35;0 (baseline) |" in text
    assert "Not finished" not in text


def test_bad_input_ends_in_one_line(refused: Refused) -> None:
    assert "no study 'digit'" in refused(report.main, ["--study", "digit"])
    assert "gif" in refused(report.main, ["--formats", "gif"])


@pytest.fixture
def copy(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, as the current directory."""
    folder = shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


def name_extension(study: str, name: str, sha256: str, path: str) -> None:
    stored = optuna.load_study(study_name=study, storage="sqlite:///studies.db")
    own = {"name": name, "sha256": sha256, "path": path}
    stored.set_user_attr("spec", {**stored.user_attrs["spec"], "extensions": [own]})


def test_all_studies_have_a_report_with_their_own_figures_and_an_index_page_links_them(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copy / "ends.py"
    file.write_text(
        "import plotly.graph_objects as go\n"
        "from search.figures import FIGURES, Figure\n"
        "FIGURES['ends'] = Figure('Ends', 'How it ended', lambda _: go.Figure(go.Scatter(x=[1])))\n"
    )
    name_extension("digits", file.name, sha256(file.read_bytes()).hexdigest(), str(file))
    assert report.main(["--all", "--formats", "svg"]) == 0
    assert "All of them: runs/index.html" in capsys.readouterr().out
    page = (copy / "runs" / "index.html").read_text()
    assert "digits: digits has the best trial, " in page or "digits: dropout has" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert links == ["digits/report.html", "dropout/report.html"]
    assert all((copy / "runs" / link).is_file() for link in links)
    assert [it.parent.parent.name for it in copy.rglob("figures/ends.svg")] == ["digits"]


@pytest.mark.usefixtures("copy")
def test_studies_that_cannot_be_read_are_named_and_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also if the latest study is one of them; studies of other programs are not mentioned."""
    optuna.create_study(study_name="theirs", storage="sqlite:///studies.db").ask()
    name_extension("digits", "lost.py", "0" * 64, "/nowhere/lost.py")
    assert report.main(["--all", "--formats", "svg"]) == 0
    out, err = capsys.readouterr()
    (skipped,) = [line for line in err.splitlines() if "Skipped" in line]
    assert skipped.startswith("Skipped: study 'digits': the study needs lost.py, which is not at ")
    assert "theirs" not in out + err
    links = re.findall(r'href="([^"]+)"', Path("runs/index.html").read_text())
    assert links == ["dropout/report.html"]


def test_the_index_tells_data_sets_of_one_title_apart(
    small_study: StudyView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def view(study: str, name: str, title: str) -> StudyView:
        dataset = replace(small_study.dataset, name=name, title=title)
        return replace(small_study, name=study, dataset=dataset)

    views = [
        view("a", "folder:/spring/photos", "photos"),
        view("b", "folder:/autumn/photos", "photos"),
        view("c", "folder:/autumn/photos", "photos"),
        view("d", "digits", "digits"),
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "report.html").touch()
    monkeypatch.setattr(os.path, "relpath", ntpath.relpath)  # links are no paths of Windows
    page = write_index([(one, tmp_path / one.name) for one in views], datetime.now(UTC), tmp_path)
    text = html.unescape(page.read_text())
    assert re.findall('href="(.*?)"', text) == ["a/report.html"]
    leaders = re.findall(r"([^\s>]+(?: \(\S+\))?): (\w) has the best trial", text)
    spring, autumn = "photos (folder:/spring/photos)", "photos (folder:/autumn/photos)"
    assert leaders == [(spring, "a"), (autumn, "b"), ("digits", "d")]
    assert re.findall(r"<td>(photos.*?|digits)</td>", text) == [spring, autumn, autumn, "digits"]


def test_a_browser_draws_every_figure_sorts_tables_and_prints_both(
    place: Path, browser: Any
) -> None:
    report.main(["--study", "digits", "--formats", "svg"])
    page = place / "runs/digits/report.html"
    browser.get(page.as_uri())
    assert page.read_text().count('<script type="application/json" class="figure">') == 6
    plots = "return document.querySelectorAll('.plot.js-plotly-plot').length"
    assert browser.execute_script(plots) == 6
    rows = "document.querySelector('table').rows"
    column = f"return [...{rows}].slice(1).map(row => +row.cells[1].innerText)"
    losses = browser.execute_script(column)
    for reverse in (False, True):
        clicked = browser.execute_script(f"{rows}[0].cells[1].click(); {column}")
        assert clicked == sorted(losses, reverse=reverse)

    # All of it fits the paper.
    a4 = {"width": 718, "height": 1046, "deviceScaleFactor": 1, "mobile": False}  # 10 mm margins
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", a4)
    fits = "getComputedStyle(box).overflowX == 'visible' && box.scrollWidth <= box.clientWidth"
    boxes = "[...document.querySelectorAll('.table, .wide')]"
    settled(browser, f"{boxes}.every(box => {fits})")  # plotly resizes its figures


def test_empty_cells_stay_together_and_the_others_in_order(tmp_path: Path, browser: Any) -> None:
    cells = ["93.10", "", "91.00", "", "95.00", "90.00"]
    table = "\n".join([head("trial", ">accuracy"), *(row(f"#{n}", c) for n, c in enumerate(cells))])
    file = tmp_path / "table.html"
    file.write_text(page("A table", table, {}))
    browser.get(file.as_uri())
    rows = "document.querySelector('table').rows"
    column = f"return [...{rows}].slice(1).map(row => row.cells[1].innerText)"
    numbers = ["90.00", "91.00", "93.10", "95.00"]
    for expected in ([*numbers, "", ""], ["", "", *numbers[::-1]]):
        assert browser.execute_script(f"{rows}[0].cells[1].click(); {column}") == expected


def test_the_keyboard_sorts_a_table_and_leaves_it(tmp_path: Path, browser: Any) -> None:
    file, table = tmp_path / "table.html", [head("trial", "loss"), row("#0", "2"), row("#1", "1")]
    file.write_text(page("A table", "\n".join([*table, "", "[a link](there)"]), {}))
    browser.get(file.as_uri())
    seen = []
    for key in ("\ue004", "\ue004", "\ue007", "\ue004"):  # tabulator, tabulator, enter, tabulator
        browser.switch_to.active_element.send_keys(key)
        seen.append(browser.switch_to.active_element.text)
    assert seen == ["trial", "loss", "loss", "a link"]
    first = "return document.querySelector('table').rows[1].innerText"
    assert browser.execute_script(first).split() == ["#1", "1"]
