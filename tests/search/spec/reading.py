"""Reads studies from study files."""

from __future__ import annotations

from pathlib import Path

from search.spec.config import StudySpec
from search.spec.study_file import read_study_file


def read(file: Path, text: str | None = None, *, dataset: str = "digits") -> StudySpec:
    """The file's study, with this data set if it names none; `text` is written to it first."""
    if text is not None:
        file.write_text(text, encoding="utf-8")
    return StudySpec(**{"dataset": dataset, **read_study_file(file)})
