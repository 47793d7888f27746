"""Study files: TOML in, `StudySpec` out; each mistake with its key and line."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from data.extensions import is_reference
from data.reading import read_regular
from models.checks import shown
from models.family import KIND_WORDS
from search.spec.arms import MAX_ARMS, check_tables, comparison_fields, read_arm
from search.spec.config import StudySpec, families_in
from search.spec.domains import SpecError, plain_values
from search.spec.extensions import file_of, load_extension, register_families
from search.spec.journal import JournalEntry
from search.spec.lines import line_of
from search.spec.parameters import known_parameters, read_parameter, read_values

T = TypeVar("T")

READY_MADE = Path(__file__).parent.parent / "studies"
SECTIONS = ("study", "space", "baseline", "arm", "journal", "published")
PUBLISHED = ("limit", "epochs", "repeats")  # keys of [study] that a start may change by flag
ARRAYS = ("arm", "journal")  # sections of which there may be several
STUDY_KEYS: dict[str, type] = {
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
    "extensions": list,
    "metrics": list,
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
        return _arguments(_content(text), path.parent)
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


def _arguments(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    for section in content:
        if section not in SECTIONS:
            raise SpecError(
                section, f"unknown section or key {shown(section)}; known: {', '.join(SECTIONS)}"
            )
        if section in ARRAYS:
            _check_tables(section, content[section])
        elif not isinstance(content[section], dict):
            raise SpecError(section, f"{section!r} is a table, [{section}]")
    fields = {key: _checked(key, value) for key, value in content.get("study", {}).items()}
    space, tables = content.get("space", {}), content.get("arm", [])
    families = families_in((space, content.get("baseline", {}), *tables))
    fields |= _extensions(fields, families, folder)
    known = known_parameters(families)
    fields["space"] = {name: read_parameter(name, it, known) for name, it in space.items()}
    if "baseline" in content:
        fields["baseline"] = read_values(content["baseline"], known)
    arms = None
    if "arm" in content:
        arms = _each("arm", tables, lambda table: read_arm(table, known))
        check_tables(arms)
    fields |= comparison_fields(fields, fields["space"], arms)
    if "journal" in content:
        fields["journal"] = tuple(_each("journal", content["journal"], JournalEntry.from_dict))
    if any(arm.reported for arm in fields.get("arms", ())):
        fields["published"] = _published(fields, content.get("published"))
    return fields


def _check_tables(name: str, written: object) -> None:
    if not isinstance(written, list) or not all(isinstance(table, dict) for table in written):
        raise SpecError(name, f"{name!r} is a list of tables, each headed [[{name}]]")
    if name == "arm" and len(written) > MAX_ARMS:
        raise SpecError("arm", f"at most {MAX_ARMS} arms can be compared, but got {len(written)}")


def _each(name: str, tables: list[dict[str, Any]], read: Callable[[dict[str, Any]], T]) -> list[T]:
    """What `read` makes of each table; an error of it is given the table's place."""
    found = []
    for number, table in enumerate(tables):
        try:
            found.append(read(table))
        except SpecError as error:
            raise SpecError(error.key, str(error), table=(name, number)) from error
    return found


def _extensions(fields: dict[str, Any], families: list[str], folder: Path) -> dict[str, Any]:
    """The fields that name a person's own files, which are loaded from the study file's folder."""
    found: dict[str, Any] = {}
    dataset, names = fields.get("dataset", ""), fields.get("extensions", [])
    if not all(isinstance(name, str) for name in names):
        raise SpecError("extensions", f"extensions is a list of files, but got {shown(names)}")
    if names:
        found["extensions"] = tuple(load_extension(name, folder / name) for name in names)
    for name in map(file_of, filter(is_reference, families)):
        load_extension(name, folder / name)
    register_families(families)
    if is_reference(dataset):
        found["dataset"] = str(folder / dataset)
    return found


def _published(fields: dict[str, Any], written: dict[str, Any] | None) -> dict[str, int]:
    """Of the experiment that the arms' metrics are from: as the file says, or else its own."""
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
        words = KIND_WORDS.get(wanted, "a list of texts")
        raise SpecError(key, f"{key} must be {words}, but got {shown(value)}")
    if key in ("title", "source") and not str(value).isprintable():
        raise SpecError(key, f"{key} must be one line of printable text")
    return value


def write_study_file(spec: StudySpec) -> str:
    """The specification in TOML: `read_study_file` gives it back."""
    plain = spec.to_dict()
    # What follows from the arms is left out; what there is none of is, too.
    follows = ("trials", "sampler", "base") if spec.is_comparison else ("repeats",)
    study = {key: plain[key] for key in STUDY_KEYS if key not in (*follows, "extensions")}
    named = {file_of(name) for name in (*spec.families, spec.dataset)}
    study["extensions"] = [one.name for one in spec.extensions if one.name not in named] or None
    study["metrics"] = plain["metrics"] or None
    content: dict[str, Any] = {
        "study": {key: value for key, value in study.items() if value is not None},
        "space": plain["space"],
    }
    if plain["baseline"] is not None:
        content["baseline"] = plain["baseline"]
    if any(arm.reported for arm in spec.arms):
        content["published"] = plain["published"]
    if spec.arms:
        content["arm"] = [
            {"name": arm.name, **plain_values(arm.values), **_given(reported=dict(arm.reported))}
            for arm in spec.arms
        ]
    if spec.journal:
        content["journal"] = [_given(**entry) for entry in plain["journal"]]
    return tomli_w.dumps(content)


def _given(**values: Any) -> dict[str, Any]:
    """Without what is empty."""
    return {name: value for name, value in values.items() if value}


def located(path: Path, error: SpecError) -> str:
    """`file:line` of the key that the error is about, or the file alone."""
    number = line_of(_text(path), error.key, error.table)
    return str(path) if number is None else f"{path}:{number}"


def listing() -> str:
    """`name  title: what runs` of each ready-made study, in columns."""
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
