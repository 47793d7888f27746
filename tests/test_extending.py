"""docs/extending.md as written: its listings make a study, and show up wherever they should."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from optuna.storages import RDBStorage
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
LISTINGS = dict(re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL))
MOST_LINES = 40
# What each file adds, by name.
ADDED = {
    "stripes.py": "stripes",
    "noise.py": "noise",
    "candidates.py": "tpe-100",
    "patience.py": "patience",
    "top2.py": "top2_accuracy",
    "widths.py": "channels",
    "sawtooth.py": "sawtooth",
}


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the listings."""
    for name, code in LISTINGS.items():
        (tmp_path / name).write_text(code)
    return tmp_path


def test_the_page_shows_one_of_each_kind() -> None:
    assert {*ADDED, "study.toml", "mynet.py"} == set(LISTINGS)
    for name, code in LISTINGS.items():
        assert len(code.splitlines()) < MOST_LINES, name


def test_help_lists_what_files_add(folder: Path) -> None:
    words = [word for name in ADDED for word in ("--extension", name)]
    text = run(folder, "search.study", *words, "--help")
    for name in ADDED.values():
        assert re.search(rf"\b{name}\b", text), name


def test_a_study_of_all_of_them(folder: Path) -> None:
    run(folder, "search.study", "--config", "study.toml", "--workers", "1")
    assert "4 of 4 trials" in run(folder, "search.study", "--status")
    run(folder, "search.report", "--formats", "png")
    (page,) = (folder / "runs").rglob("report.html")
    text = page.read_text()
    for words in ("Stripes", "mynet.py:build", "noise", "sawtooth", "hundred candidates"):
        assert words in text, words
    assert "top2_accuracy" in text
    assert "Validation loss against the number of channels" in text
    assert list((folder / "runs").rglob("channels.png"))

    # The dashboard shows the figure and the metric.
    storage = RDBStorage(f"sqlite:///{folder / 'studies.db'}")
    shown = storage.get_study_system_attrs(storage.get_all_studies()[0]._study_id)
    storage.engine.dispose()
    content = json.dumps(shown)
    assert "Channels" in content
    assert "top2_accuracy" in content

    # The finalised network needs none of the files.
    run(folder, "search.finalize", "--seeds", "1")
    (metrics,) = (folder / "runs").rglob("metrics.json")
    assert json.loads(metrics.read_text())
    for name in LISTINGS:
        (folder / name).unlink()
    Image.new("L", (12, 12)).save(folder / "picture.png")
    text = run(folder, "search.predict", "--study", "study", "picture.png")
    assert re.search("across|down", text)
