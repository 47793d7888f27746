"""The command on real, small studies: what it writes, and what it says."""

import re
from pathlib import Path
from typing import Any

import pytest

from search import report, study
from tests.search.conftest import Refused

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
        study.main(["--config", "dropout.toml", "--study", "dropout", "--workers", "1"])
        study.main(["--dataset", "digits", "--trials", "3", "--epochs", "2", "--workers", "1"])
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


def test_all_studies_have_a_report_and_an_index_page_links_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["--all", "--formats", "svg"]) == 0
    assert "All of them: runs/index.html" in capsys.readouterr().out
    page = (place / "runs" / "index.html").read_text()
    assert "digits: digits has the best trial, " in page or "digits: dropout has" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert links == ["digits/report.html", "dropout/report.html"]
    assert all((place / "runs" / link).is_file() for link in links)


def test_a_browser_draws_every_figure_and_sorts_tables(place: Path, browser: Any) -> None:
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
