"""Studies as their files have them."""

from __future__ import annotations

from pathlib import Path

from search.spec.config import StudySpec
from search.spec.study_file import read_study_file


def read(file: Path, text: str | None = None, *, dataset: str = "digits") -> StudySpec:
    """The file's study, of this data set where it names none; `text`: written into it first."""
    if text is not None:
        file.write_text(text, encoding="utf-8")
    return StudySpec(**{"dataset": dataset, **read_study_file(file)})
