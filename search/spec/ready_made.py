"""The ready-made studies, a line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.spec.config import StudySpec
from search.spec.study_file import read_study_file, ready_made


def listing() -> str:
    """`name  title: what runs` of each, in columns."""
    files = ready_made()
    widest = max(len(file.stem) for file in files)
    return "\n".join(f"{file.stem:<{widest}}  {_line(file)}" for file in files)


def _line(file: Path) -> str:
    fields: dict[str, Any] = {"dataset": "fashion_mnist", **read_study_file(file)}
    spec = StudySpec(**fields)
    return f"{spec.title}: {size_in_words(spec)}, {spec.dataset}"


def size_in_words(spec: StudySpec) -> str:
    """`4 arms x 3 repeats of up to 100 epochs`, `50 trials of up to 12 epochs`."""
    what = f"{spec.trials} trials" if spec.trials > 1 else "1 trial"
    if spec.is_comparison:
        arms = f"{len(spec.arms)} arms" if len(spec.arms) > 1 else "1 arm"
        what = f"{arms} x {spec.repeats} repeat{'s' if spec.repeats > 1 else ''}"
    limit = "" if spec.limit is None else f" on {spec.limit} images"
    return f"{what} of up to {spec.epochs} epochs{limit}"
