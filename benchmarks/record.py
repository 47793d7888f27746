"""What all benchmarks share: arguments, the environment that they record, and summaries."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import plotly.graph_objects as go
import torch
from platformdirs import user_cache_path
from rich import box
from rich.console import Console
from rich.table import Table

from search.figures import Kind
from search.figures.files import write_pictures
from search.terminal.commands import Parser, positive_int
from search.training.device import available_cores, describe_hardware, versions

Job = TypeVar("Job")
T = TypeVar("T")
ROOT = Path(__file__).parents[1]
NO_RAY = "Ray Tune is not installed: pip install -e '.[bench]'"  # why it is skipped
CPU = torch.device("cpu")
REPLAYS = user_cache_path("cnn-search") / "replay"  # where replays and surrogates are kept


def record_file(path: str) -> Path:
    """An argument that names an existing record of benchmarks.curves."""
    if not Path(path).exists():
        remedy = f"record one with python -m benchmarks.curves {path}"
        raise argparse.ArgumentTypeError(f"there is no {path}; {remedy}")
    return Path(path)


SHARED: dict[str, dict[str, Any]] = {  # options of several benchmarks
    "dataset": {"metavar": "NAME", "default": "fashion_mnist", "help": "data set"},
    "limit": {"type": positive_int, "metavar": "N", "help": "training images (default: all)"},
    "json": {"type": Path, "metavar": "FILE", "help": "write the result here as well"},
    "figure": {"type": Path, "metavar": "FILE", "help": "draw it, as .html, .svg or .png"},
    "learn-from": {
        "nargs": "+",
        "type": record_file,
        "default": [],
        "metavar": "FILE",
        "help": "further records for the prior only; nothing is replayed on them",
    },
    "sampler": {
        "choices": ("gp", "tpe", "random"),
        "default": "gp",
        "help": "for ours: gp (default), tpe, which is fast, or random",
    },
    "cache": {
        "type": Path,
        "metavar": "DIR",
        "default": REPLAYS,
        "help": "where replays and surrogates are kept",
    },
}


class BenchmarkParser(Parser):
    """The arguments of a benchmark; its module docstring gives the description and examples."""

    def __init__(self, doc: str | None) -> None:
        first, *others = (doc or "").split("\n\n")
        examples = "\n".join(part for part in others if part.startswith("    "))
        super().__init__(description=first, examples=examples)

    def add(self, *names: str) -> None:
        """Options that several benchmarks have, or several commands."""
        for name in names:
            if name in SHARED:
                self.add_argument(f"--{name}", **SHARED[name])
            else:
                super().add(name)

    def add_counts(self, *counts: tuple[str, int | list[int] | None, str]) -> None:
        """`--NAME N` for each (name, default, help text): a whole number from 1 up, or several."""
        for name, default, text in counts:
            more: Any = {"nargs": "+"} if isinstance(default, list) else {}
            if default is not None:
                text += f" (default: {str(default).strip('[]').replace(',', '')})"
            self.add_argument(
                f"--{name}", type=positive_int, metavar="N", default=default, help=text, **more
            )

    def add_records(self) -> None:
        """`files`: one or more records."""
        what = "a record of benchmarks.curves"
        self.add_argument("files", nargs="+", type=record_file, metavar="FILE", help=what)


def in_processes(
    work: Callable[[Job], T], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, T]]:
    """Call `work` with each job in `workers` new processes, or in this one if that is 1.

    Yields each job with its result, as they finish.
    """
    if workers == 1:
        yield from ((job, work(job)) for job in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        waiting = {pool.submit(work, job): job for job in jobs}
        yield from ((waiting[done], done.result()) for done in as_completed(waiting))


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, minimum and maximum, and the individual rounds' values in order."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": list(values),
    }


def in_words(of: Mapping[str, Any], form: str = ".3g") -> str:
    """The result of `spread` as text: the median and the range."""
    return f"{of['median']:{form}} ({of['min']:{form}} to {of['max']:{form}})"


def show_table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> None:
    """Print a table; all columns but the first are numbers and right-aligned."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    console.print(table)
    for note in notes:
        console.print(note, markup=False)


def environment(name: str, device: torch.device = CPU) -> dict[str, Any]:
    """Where and how the benchmark `name` ran: hardware, cores, versions, command, commit."""
    return {
        "hardware": describe_hardware(device),
        "device": device.type,
        "cores": available_cores(),
        "system": platform.platform(),
        "versions": {**versions(), "ray": ray_version() or "not installed"},
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *map(_anywhere, sys.argv[1:])]),
        "commit": commit(),
    }


def ray_version() -> str | None:
    try:
        return version("ray")
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """The checkout's commit, with `-dirty` if files differ from it; None without git."""
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


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write the result if the user named a file."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _anywhere(argument: str) -> str:
    """Without the folders of this machine."""
    path = Path(argument)
    return path.name if path.is_absolute() else argument
