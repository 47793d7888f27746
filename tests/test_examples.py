"""The examples, as a reader runs them."""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / "notebook.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    said = process.stdout
    assert "6 of 6 trials finished" in said
    metrics = json.loads((tmp_path / "runs/notebook/final/metrics.json").read_text())
    test = metrics["test"]
    words = f"{100 * test['accuracy']:.2f} % ± "
    assert f"{words}{100 * test['uncertainty']['sampling_error']:.2f} (sampling)" in said
    assert f"± {100 * test['std']:.2f} (2 seeds), 360 images" in said
    assert test["accuracy"] > 0.8
    assert "it is a 0" in said
    assert (tmp_path / "curves.html").exists()
