"""Our part of a study's note, between two marks; all around it is what people wrote."""

from __future__ import annotations

import re

BEGIN = (
    "<!-- cnn-search: begin. What stands up to the end mark is rewritten; write above or below -->"
)
END = "<!-- cnn-search: end -->"
# Each on a line of its own, where no text has them that a study file or a class name brings in.
_BEGIN = re.compile(r"^<!-- cnn-search: begin\b[^\n]*-->[ \t]*\r?\n", re.MULTILINE)
_END = re.compile(r"^<!-- cnn-search: end -->[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
# The whole note, as the versions wrote it that knew no marks.
_UNMARKED = (
    re.compile(r"^# [^\n]*\n\n[^\n]*\btrials finished\*\*", re.MULTILINE),
    *(
        re.compile(rf"^## {title}\n", re.MULTILINE)
        for title in (
            "Best trials",
            "Against the baseline",
            "Test set",
            "Data and machine",
            "How to go on, and how to repeat it",
        )
    ),
    re.compile(r"^```+toml\n", re.MULTILINE),
    re.compile(r"^```+(?:\n|\Z)", re.MULTILINE),
)


def placed(ours: str, note: str) -> str:
    """The note with our part, in Markdown, in place of the one that it had; behind it, if none."""
    section = f"{BEGIN}\n\n{ours.rstrip()}\n\n{END}\n"
    found = _marked(note) or _unmarked(note)
    if found is not None:
        return note[: found[0]] + section + note[found[1] :]
    return f"{note.rstrip()}\n\n{section}" if note.strip() else section


def _marked(note: str) -> tuple[int, int] | None:
    """Where it begins and ends."""
    first = _BEGIN.search(note)
    end = first and _END.search(note, first.end())
    if not end:
        return None
    *_, begin = _BEGIN.finditer(note, 0, end.start())
    return begin.start(), end.end()


def _unmarked(note: str) -> tuple[int, int] | None:
    start, place = None, 0
    for part in _UNMARKED:
        found = part.search(note, place)
        if found is None:
            return None
        start, place = found.start() if start is None else start, found.end()
    assert start is not None
    return start, place
