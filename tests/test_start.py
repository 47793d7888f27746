"""Commands that only answer do not load PyTorch, which takes longer than everything else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from search.cli import COMMANDS
from tests.search.long_studies import empty_studies

ROOT = Path(__file__).parent.parent
SLOW = {"optuna", "torch", "torchvision", "sklearn", "scipy", "matplotlib", "plotly"}


def loaded(words: list[str], folder: Path, code: int = 0) -> set[str]:
    """The slow libraries that a command has loaded when it ends, with this exit code."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr[-2000:]
    modules = re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)
    assert "encodings" in modules
    return SLOW.intersection(modules)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder whose studies.db holds two studies."""
    empty_studies(tmp_path, "s", "digits")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--status --study s", 0),
        ("--status --study t", 2),
        ("--status --dataset digits", 0),
        ("--status --config a4_dropout", 2),
        ("--status --storage sqlite:///none.db", 2),
        ("--list", 0),
        ("--trials many", 2),
        ("--study a/b", 2),
    ],
)
def test_study_answers_without_loading_slow_libraries(words: str, code: int, study: Path) -> None:
    found = loaded(["search.study", *words.split()], study, code)
    assert found <= ({"optuna"} if code else set())  # loaded to say what is wrong


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_needs_slow_libraries_for_help(name: str, tmp_path: Path) -> None:
    assert loaded([COMMANDS[name][0].removesuffix(".__main__"), "--help"], tmp_path) == set()


def test_a_report_needs_no_torch(study: Path) -> None:
    words = ["search.report", "--study", "s", "--formats", "svg"]
    assert not {"torch", "torchvision"} & loaded(words, study)
