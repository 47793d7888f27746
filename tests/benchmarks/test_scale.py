from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scale import PARTS


@pytest.mark.parametrize("parts", [("make", "claim"), ("make", "dashboard")])
def test_each_part_runs_and_reports_its_cost(tmp_path: Path, parts: tuple[str, ...]) -> None:
    found: dict[str, float] = {}
    for part in parts:
        found = PARTS[part](tmp_path / "studies.db", 12)
    assert found
    assert all(value > 0 for value in found.values())


def test_the_parent_process_is_small() -> None:
    """A process's peak memory starts at that of its parent."""
    code = "import sys, json, benchmarks.scale; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert not {"torch", "numpy", "optuna", "sqlalchemy"} & set(loaded)
