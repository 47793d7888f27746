"""How to repeat a study: its specification as a study file, and the commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from search.trials.config import StudySpec
from search.trials.study_file import STUDY_KEYS
from search.trials.view import StudyView


def command(module: str, view: StudyView, *more: str) -> str:
    """`python -m search.<module>` for this study, to paste into a shell; without a password."""
    words = ["--study", view.name, "--storage", without_password(view.storage), *more]
    return f"python -m search.{module} " + " ".join(map(shlex.quote, words))


def without_password(url: str) -> str:
    """The URL that a person can type: PGPASSFILE and PGPASSWORD bring the password."""
    try:
        address = make_url(url).set(password=None)
    except (ArgumentError, ValueError):
        return url  # it came masked, and malformed URLs open no database
    return address.difference_update_query(["password"]).render_as_string()


def study_file(spec: StudySpec) -> str:
    """The specification in TOML: `search.trials.study_file.read_study_file` gives it back."""
    plain = spec.to_dict()
    sections: dict[str, Mapping[str, Any]] = {
        "study": {key: plain[key] for key in STUDY_KEYS},
        "space": plain["space"],
    }
    if plain["baseline"] is not None:
        sections["baseline"] = plain["baseline"]
    return "\n".join(line for name, section in sections.items() for line in _table(name, section))


def _table(name: str, section: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{name}]"
    for key, value in section.items():
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
