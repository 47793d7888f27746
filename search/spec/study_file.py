"""Study files: TOML in, `StudySpec` out; each mistake with its key and line."""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.reading import read_regular
from models.checks import shown
from search.spec.config import StudySpec
from search.spec.design_file import comparison_fields, read_journal
from search.spec.domains import Domain, ParameterValue, SpecError
from search.spec.space import KIND_WORDS, read_parameter, read_value

READY_MADE = Path(__file__).parent.parent / "studies"
SECTIONS = ("study", "space", "baseline", "arm", "journal", "published")
PUBLISHED = ("limit", "epochs", "repeats")  # keys of [study] that a start may change by flag
ARRAYS = ("arm", "journal")  # sections of which there may be several
STUDY_KEYS: dict[str, type[int] | type[str] | type[bool]] = {
    "title": str,
    "source": str,
    "dataset": str,
    "image_size": int,
    "mirror_changes_class": bool,
    "validation_count": int,
    "limit": int,
    "trials": int,
    "epochs": int,
    "patience": int,
    "seed": int,
    "sampler": str,
    "pruner": str,
    "repeats": int,
    "base": str,
}
MAX_BYTES = 1_000_000
# Python's parser takes time that grows with the square of a key's parts.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){20}""")


class StudyFileError(ValueError):
    """A study file that cannot be used: file, line, key and what is wrong, on one line."""


def ready_made() -> list[Path]:
    """The files of the ready-made studies: the default one, then by name."""
    return sorted(READY_MADE.glob("*.toml"), key=lambda file: (file.stem != "default", file.stem))


def find_study_file(name_or_path: str) -> Path:
    """A ready-made study by its name, or a file by its path.

    Raises:
        StudyFileError: there is neither.
    """
    for file in ready_made():
        if file.stem == name_or_path:
            return file
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a name that is too long, or has a NUL byte
        pass
    names = ", ".join(file.stem for file in ready_made())
    raise StudyFileError(
        f"no study file {name_or_path!r}; give a path to a .toml file or one of: {names}"
    )


def read_study_file(path: Path) -> dict[str, Any]:
    """The file as arguments of `StudySpec`; all optional but what the file names.

    Raises:
        StudyFileError: unreadable, not TOML, an unknown key, a wrong type or value.
    """
    try:
        text = _text(path)
    except OSError as error:
        raise StudyFileError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise StudyFileError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    try:
        return _arguments(_content(text))
    except SpecError as error:
        raise StudyFileError(f"{located(path, error)}: {error}") from error
    except ValueError as error:
        raise StudyFileError(f"{path}: malformed TOML: {error}") from error


def _text(path: Path) -> str:
    return read_regular(path, MAX_BYTES).decode("utf-8-sig")  # as some editors of Windows save it


def _content(text: str) -> dict[str, Any]:
    """Raises ValueError where it is no TOML, or takes the parser without end."""
    if (found := _LONG_KEY.search(text)) is not None:
        raise ValueError(
            f"{shown(found[0].strip())} is too long a key; the longest have three parts"
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except ValueError:  # Python converts no more at once
        raise ValueError(f"a number has more than {sys.get_int_max_str_digits()} digits") from None


def _arguments(content: dict[str, Any]) -> dict[str, Any]:
    for section in content:
        if section not in SECTIONS:
            raise SpecError(
                section, f"unknown section or key {shown(section)}; known: {', '.join(SECTIONS)}"
            )
        if section not in ARRAYS and not isinstance(content[section], dict):
            raise SpecError(section, f"{section!r} is a table, [{section}]")
    fields = {key: _checked(key, value) for key, value in content.get("study", {}).items()}
    fields["space"] = _space(content.get("space", {}))
    if "baseline" in content:
        fields["baseline"] = _baseline(content["baseline"])
    fields |= comparison_fields(fields, fields["space"], content.get("arm")) or {}
    if "journal" in content:
        fields["journal"] = read_journal(content["journal"])
    if any(arm.reported for arm in fields.get("arms", ())):
        fields["published"] = _published(fields, content.get("published"))
    return fields


def _published(fields: dict[str, Any], written: dict[str, Any] | None) -> dict[str, int]:
    """Of the experiment that the arms' figures are from: as the file says, or else its own."""
    if written is None:
        plain = StudySpec(dataset="")
        own = {key: fields.get(key, getattr(plain, key)) for key in PUBLISHED}
        return {key: value for key, value in own.items() if value is not None}
    for key, value in written.items():
        if key not in PUBLISHED:
            raise SpecError(
                key, f"unknown key {key!r} in [published]; known: {', '.join(PUBLISHED)}"
            )
        if _checked(key, value) < 1:
            raise SpecError(key, f"{key} must be at least 1, but got {value!r}")
    return written


def _checked(key: str, value: Any) -> Any:
    if key not in STUDY_KEYS:
        raise SpecError(key, f"unknown key {shown(key)} in [study]; known: {', '.join(STUDY_KEYS)}")
    wanted = STUDY_KEYS[key]
    if type(value) is not wanted:
        raise SpecError(key, f"{key} must be {KIND_WORDS[wanted]}, but got {shown(value)}")
    if key in ("title", "source") and not str(value).isprintable():
        raise SpecError(key, f"{key} must be one line of printable text")
    return value


def _space(written: dict[str, Any]) -> dict[str, Domain]:
    return {name: read_parameter(name, value) for name, value in written.items()}


def _baseline(written: dict[str, Any]) -> dict[str, ParameterValue]:
    return {name: read_value(name, value) for name, value in written.items()}


def located(path: Path, error: SpecError) -> str:
    """`file:line` of the key that the error is about, or the file alone.

    That is the key's first mention, as a key or as a table; of a key in one of several tables that
    are called alike, the mention in that table, or else the table's head.
    """
    text = _text(path)
    number = None
    if error.table is not None:
        number = _line_in_table(text, error.key, *error.table)
    if number is None:
        mentions = [(table, n) for n, table, line in _lines(text) if _mentions(line, error.key)]
        of_all = [n for table, n in mentions if table is None]
        number = next(iter(of_all or [n for _, n in mentions]), None)
    return str(path) if number is None else f"{path}:{number}"


def _line_in_table(text: str, key: str, section: str, which: str | int) -> int | None:
    """The line of a key in the table of that name or number; None where there is no such table."""
    tables = tomllib.loads(text).get(section, [])
    names = [table.get("name") for table in tables]
    if which in names:
        which = names.index(which)
    inside = [(number, line) for number, table, line in _lines(text) if table == (section, which)]
    return next((number for number, line in inside if _mentions(line, key)), None) or next(
        (number for number, _ in inside), None
    )


def _lines(text: str) -> Iterator[tuple[int, tuple[str, int] | None, str]]:
    """(number, the [[table]] that it belongs to and which of those, the line itself)."""
    table: tuple[str, int] | None = None
    seen: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        head = re.match(r"\s*(\[+)\s*([\w.-]+)\s*\]", line)
        if head is not None:  # [arm.reported] belongs to the last [[arm]]
            name = head[2].partition(".")[0]
            seen[name] += head[1] == "[[" and head[2] == name
            table = (name, seen[name] - 1) if seen[name] else None
        yield number, table, line


def _mentions(line: str, key: str) -> bool:
    name = re.escape(key)
    pattern = rf"""\s*(\[+\s*(\w+\.)*{name}\s*\]+|(\w+\.)*["']?{name}["']?\s*[=.])"""
    return re.match(pattern, line) is not None
