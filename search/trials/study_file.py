"""Study files: TOML in, `StudySpec` out; each mistake with its key and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.trials.domains import Domain, Fixed, ParameterValue, SpecError
from search.trials.space import read_parameter

READY_MADE = Path(__file__).parent.parent / "studies"
SECTIONS = ("study", "space", "baseline")
STUDY_KEYS: dict[str, type[int] | type[str]] = {
    "title": str,
    "dataset": str,
    "image_size": int,
    "validation_count": int,
    "limit": int,
    "trials": int,
    "epochs": int,
    "patience": int,
    "seed": int,
    "sampler": str,
    "pruner": str,
}
MAX_BYTES = 1_000_000


class StudyFileError(ValueError):
    """A study file that cannot be used: file, line, key and what is wrong, on one line."""


def find_study_file(name_or_path: str) -> Path:
    """A ready-made study by its name, or a file by its path."""
    ready_made = READY_MADE / f"{name_or_path}.toml"
    if re.fullmatch(r"[A-Za-z0-9_-]+", name_or_path) and ready_made.is_file():
        return ready_made
    path = Path(name_or_path)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in READY_MADE.glob("*.toml")))
        raise StudyFileError(
            f"no study file {name_or_path!r}; give a path to a .toml file or one of: {names}"
        )
    return path


def read_study_file(path: Path) -> dict[str, Any]:
    """The file as arguments of `StudySpec`; all optional but what the file names.

    Raises:
        StudyFileError: unreadable, not TOML, an unknown key, a wrong type or value.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StudyFileError(f"{path}: larger than {MAX_BYTES} bytes; is it a study file?")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyFileError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise StudyFileError(f"{path}: is not UTF-8 text") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyFileError(f"{path}: malformed TOML: {error}") from error
    try:
        return dict(_arguments(content))
    except SpecError as error:
        raise StudyFileError(f"{located(path, error.key)}: {error}") from error


def located(path: Path, key: str) -> str:
    """`file:line` of a key (its first mention as a key or table), or the file alone."""
    name = re.escape(key)
    pattern = re.compile(rf"""^\s*(\[+\s*(\w+\.)*{name}\s*\]+|(\w+\.)*["']?{name}["']?\s*[=.])""")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if pattern.match(line):
            return f"{path}:{number}"
    return str(path)


def _arguments(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for section in content:
        if section not in SECTIONS:
            raise SpecError(
                section, f"unknown section or key {section!r}; known: {', '.join(SECTIONS)}"
            )
        if not isinstance(content[section], dict):
            raise SpecError(section, f"{section!r} is a table, [{section}]")
    for key, value in content.get("study", {}).items():
        yield key, _checked(key, value)
    yield "space", _space(content.get("space", {}))
    if "baseline" in content:
        yield "baseline", _baseline(content["baseline"])


def _checked(key: str, value: Any) -> Any:
    if key not in STUDY_KEYS:
        raise SpecError(key, f"unknown key {key!r} in [study]; known: {', '.join(STUDY_KEYS)}")
    wanted = STUDY_KEYS[key]
    if not isinstance(value, wanted) or isinstance(value, bool):
        kind = "a whole number" if wanted is int else "a text"
        raise SpecError(key, f"{key} must be {kind}, but got {value!r}")
    if key == "title" and not str(value).isprintable():
        raise SpecError(key, "title must be one line of printable text")
    return value


def _space(written: dict[str, Any]) -> dict[str, Domain]:
    return {name: read_parameter(name, value) for name, value in written.items()}


def _baseline(written: dict[str, Any]) -> dict[str, ParameterValue]:
    values = {}
    for name, value in written.items():
        domain = read_parameter(name, value)
        if not isinstance(domain, Fixed):
            raise SpecError(name, f"{name}: a baseline has one value each, but got {value!r}")
        values[name] = domain.value
    return values
