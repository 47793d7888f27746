"""How to repeat a study: its specification as a study file, and the commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from search.spec.config import StudySpec
from search.spec.study_file import STUDY_KEYS
from search.store.urls import without_password
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


def study_file(spec: StudySpec) -> str:
    """The specification in TOML: `search.spec.study_file.read_study_file` gives it back."""
    plain = spec.to_dict()
    # What follows from the arms is left out; what there is none of is, too.
    follows = ("trials", "sampler", "base") if spec.is_comparison else ("repeats",)
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("[study]", {key: plain[key] for key in STUDY_KEYS if key not in follows}),
        ("[space]", plain["space"]),
    ]
    if plain["baseline"] is not None:
        tables.append(("[baseline]", plain["baseline"]))
    for arm in plain["arms"]:
        reported = {"reported": arm["reported"]} if arm["reported"] else {}
        tables.append(("[[arm]]", {"name": arm["name"], **arm["values"], **reported}))
    if any(arm.reported for arm in spec.arms):
        tables.append(("[published]", plain["published"]))
    for entry in plain["journal"]:
        tables.append(("[[journal]]", {key: value for key, value in entry.items() if value}))
    return "\n".join(line for head, table in tables for line in _table(head, table))


def _table(head: str, table: Mapping[str, Any]) -> Iterator[str]:
    yield head
    for key, value in table.items():
        if value is not None:  # TOML has no null: a key left out has its default
            yield f"{key} = {_written(value)}"
    yield ""


def _written(value: Any) -> str:
    match value:
        case dict():
            inside = ", ".join(f"{key} = {_written(item)}" for key, item in value.items())
            return f"{{ {inside} }}"
        case list() | tuple():
            return f"[{', '.join(map(_written, value))}]"
        case _:
            # JSON writes texts, numbers, true and false as TOML does, but for one control sign.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
