"""The commands that repeat a study, or do something with it."""

from __future__ import annotations

import shlex

from search.store import without_password
from search.store.views import StudyView
from search.terminal.command_line import as_called

AGAIN = "python -m search.study --config again.toml --study again --workers 1"
REPEATABLE = (
    "The values are the same to the bit if both times one worker trains, one trial at a time, on a "
    "CPU with as many threads and the same versions; several workers race for the sampler's draws."
)


def command(module: str, view: StudyView, *more: str) -> str:
    """A command for this study, to paste into a shell; without a password."""
    words = ["--study", view.name, "--storage", without_password(view.storage), *more]
    return as_called(f"python -m search.{module} ") + " ".join(map(shlex.quote, words))
