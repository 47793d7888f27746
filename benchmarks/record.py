"""What every benchmark writes down beside its figures, and how repeated figures are summed up."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch

from search.figures import Kind
from search.figures.files import write_pictures
from search.training.device import available_cores, describe_hardware, versions

ROOT = Path(__file__).parents[1]
NO_RAY = "Ray Tune is not installed: pip install -e '.[bench]'"  # why it takes no part


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, smallest and largest, and the rounds' own values in order."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": list(values),
    }


def environment(name: str, device: torch.device) -> dict[str, Any]:
    """Where and how the benchmark `name` ran: hardware, cores, versions, command, commit."""
    return {
        "hardware": describe_hardware(device),
        "device": device.type,
        "cores": available_cores(),
        "system": platform.platform(),
        "versions": {**versions(), "ray": ray_version() or "not installed"},
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "commit": commit(),
    }


def ray_version() -> str | None:
    try:
        return version("ray")
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The checkout's commit, with `-dirty` where files differ from it; None without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def write_figure(path: Path, figure: go.Figure) -> None:
    """As HTML, SVG or PNG, by the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        figure.write_html(path, include_plotlyjs="cdn")
    else:
        kind: Kind = "svg" if path.suffix == ".svg" else "png"
        write_pictures({path.stem: figure}, path.parent, [kind])


def write_json(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
