"""A person's own network from the study file to a prediction, through the commands."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
NET = """\
from torch import nn

def build(image_shape, classes, *, depth: int = 2, width: int = 16):
    layers, channels = [], image_shape[0]
    for _ in range(depth):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 64, classes))
"""
STUDY = """\
[study]
dataset = "digits"
trials = 2
epochs = 1

[space]
family = "mynet.py:build"
depth = { low = 1, high = 2 }
width = [4, 8]
"""


def test_a_bundle_predicts_without_the_networks_file(tmp_path: Path) -> None:
    (tmp_path / "mynet.py").write_text(NET)
    (tmp_path / "mine.toml").write_text(STUDY)

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CI": "true"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    run("search.study", "--config", "mine.toml", "--workers", "1")
    assert "mynet.py:build, depth" in run("search.study", "--status", "--study", "mine")
    run("search.finalize", "--study", "mine", "--seeds", "1")
    (tmp_path / "mynet.py").write_text(NET + "# changed\n")
    refused = run("search.study", "--config", "mine.toml", "--trials", "3", code=2)
    assert "mynet.py has changed since the study was made" in refused
    (tmp_path / "mynet.py").unlink()
    Image.new("L", (20, 20), 200).save(tmp_path / "digit.png")
    assert "digit.png" in run("search.predict", "--study", "mine", "digit.png")
