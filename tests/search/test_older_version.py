"""A database and a `runs/` folder that commit 3bc7fe6 made: opened, resumed, finalised.

`tests/fixtures/made_by_3bc7fe6.tar.xz` holds what its commands left: `finalised` (6 trials, scored
on test), `comparison` (2 arms, 2 repeats), `interrupted` (killed in epoch 10 of trial 1) and
`pictures` (a folder of 60 pictures, with its split). The final page is cut short, and SVG files
are left out, for size.
"""

import importlib
import json
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MADE = ROOT / "tests" / "fixtures" / "made_by_3bc7fe6.tar.xz"
Run = Callable[..., str]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with tarfile.open(MADE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in that folder and returns its output; in this process, to save loading."""
    monkeypatch.chdir(place)

    def command(module: str, *words: str) -> str:
        assert importlib.import_module(module).main(list(words)) in (None, 0)
        return capsys.readouterr().out

    return command


def rows(place: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(place / "studies.db") as connection:
        return connection.execute(query).fetchall()


def test_every_study_is_shown(run: Run) -> None:
    for study, total in (("finalised", 6), ("comparison", 4), ("pictures", 3)):
        status = run("search.study", "--status", "--study", study)
        assert f"Study {study}: {total} of {total} trials finished" in status
    status = run("search.study", "--status", "--study", "interrupted")
    assert "Study interrupted: 1 of 5 trials finished" in status


@pytest.mark.usefixtures("unseen")
def test_interrupted_study_resumes_where_it_stopped(place: Path, run: Run) -> None:
    of_trial = (
        "SELECT epoch, validation_loss, worker FROM epochs WHERE trial_id = 12 ORDER BY epoch"
    )
    before = rows(place, of_trial)
    assert before[-1][0] == 9

    run("search.study", "--study", "interrupted", "--workers", "1", "--trials", "2")

    after = rows(place, of_trial)
    assert after[: len(before)] == before  # none was trained or written again
    assert [row[0] for row in after] == list(range(len(after)))
    states = rows(place, "SELECT state, count(*) FROM trials WHERE study_id = 3 GROUP BY state")
    assert sum(count for _, count in states) == 2
    assert {state for state, _ in states} <= {"COMPLETE", "PRUNED"}


def test_finalised_study_keeps_its_first_result(place: Path, run: Run) -> None:
    final = place / "runs" / "finalised" / "final"
    first = (final / "metrics.json").read_bytes()
    weights = (final / "model.safetensors").read_bytes()

    run("search.finalize", "--study", "finalised", "--seeds", "1")

    assert (final / "metrics.json").read_bytes() == first
    assert (final / "model.safetensors").read_bytes() == weights
    evaluations = rows(place, "SELECT seeds FROM results WHERE study_name = 'finalised'")
    assert [json.loads(seeds) for (seeds,) in evaluations] == [[0, 1], [0]]


@pytest.mark.usefixtures("plainly")
def test_comparison_is_finalised(place: Path, run: Run) -> None:
    run("search.finalize", "--study", "comparison", "--seeds", "1")
    metrics = json.loads((place / "runs" / "comparison" / "final" / "metrics.json").read_text())
    assert metrics["study"] == "comparison"
    assert metrics["test"]["seeds"] == 1


def test_reports_are_written(place: Path, run: Run) -> None:
    run("search.report", "--all", "--formats", "svg")
    for study in ("finalised", "comparison", "interrupted", "pictures"):
        assert list((place / "runs" / study).rglob("*.html"))


@pytest.mark.usefixtures("plainly")
def test_a_study_of_moved_pictures_is_finalised(place: Path, run: Run) -> None:
    """The study was made in another folder and has no fingerprint; its split came along."""
    drawn = json.loads(next((place / "raw" / "folders").glob("*.json")).read_text())["test"]
    of_study = ("--study", "pictures", "--dataset", f"folder:{place / 'pictures'}")

    run("search.finalize", *of_study, "--data-dir", str(place / "raw"), "--seeds", "1")

    metrics = json.loads((place / "runs" / "pictures" / "final" / "metrics.json").read_text())
    assert metrics["test"]["seeds"] == 1
    assert sum(one["images"] for one in metrics["per_class"]) == len(drawn) == 12
    records = [json.loads(file.read_text()) for file in (place / "raw" / "folders").glob("*.json")]
    assert any(one["folder"] == str(place / "pictures") for one in records)
    assert all(sorted(one["test"]) == sorted(drawn) for one in records)  # no new split was drawn
    # stretched to 32x32, as the study was trained
    config = json.loads((place / "runs" / "pictures" / "final" / "config.json").read_text())
    assert config["image_shape"] == [1, 32, 32]
