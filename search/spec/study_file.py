"""Study files: TOML in, `StudySpec` out; each mistake with its key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from data.extensions import is_reference
from data.reading import read_regular
from models.checks import shown
from search.spec.arms import comparison_fields, read_arm
from search.spec.config import FIELDS, StudySpec, check_field
from search.spec.domains import SpecError, check_keys, plain_values
from search.spec.extensions import file_of, load_extension, register_families
from search.spec.journal import JournalEntry
from search.spec.parameters import families_in, known_parameters, read_parameter, read_values

T = TypeVar("T")

READY_MADE = Path(__file__).parent.parent / "studies"
SECTIONS = ("study", "space", "baseline", "arm", "journal", "published")
PUBLISHED = ("limit", "epochs", "repeats")  # keys of [study] that a start may change by flag
ARRAYS = ("arm", "journal")  # sections of which there may be several
LISTS = ("extensions", "metrics")
STUDY_KEYS = (*(key for key in FIELDS if key != "reading_version"), *LISTS)
MAX_BYTES = 1_000_000


class StudyFileError(ValueError):
    """A study file that cannot be used: file, key and what is wrong, on one line."""


def ready_made() -> list[Path]:
    """The files of the ready-made studies: the default one, then by name."""
    return sorted(READY_MADE.glob("*.toml"), key=lambda file: (file.stem != "default", file.stem))


def find_study_file(name_or_path: str) -> Path:
    """A ready-made study by its name, or a file by its path.

    Raises:
        StudyFileError: there is neither.
    """
    known = {file.stem: file for file in ready_made()}
    if name_or_path in known:
        return known[name_or_path]
    with suppress(OSError, ValueError):  # a name that is too long, or has a NUL byte
        if Path(name_or_path).is_file():
            return Path(name_or_path)
    raise StudyFileError(
        f"no study file {name_or_path!r}; give a path to a .toml file or one of: {', '.join(known)}"
    )


def read_study_file(path: Path) -> dict[str, Any]:
    """The file as arguments of `StudySpec`; all optional but what the file names.

    Raises:
        StudyFileError: unreadable, not TOML, an unknown key, a wrong type or value.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")  # as some editors save it
        return _arguments(tomllib.loads(text), path.parent)
    except OSError as error:
        raise StudyFileError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise StudyFileError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except SpecError as error:
        raise StudyFileError(f"{path}: {error}") from error
    except (RecursionError, ValueError) as error:
        raise StudyFileError(f"{path}: malformed TOML: {error}") from error


def _arguments(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    check_keys(content, SECTIONS, "a study file")
    for section, written in content.items():
        tables = written if isinstance(written, list) and section in ARRAYS else [written]
        if not all(isinstance(table, dict) for table in tables):
            head = f"[[{section}]]" if section in ARRAYS else f"[{section}]"
            raise SpecError(section, f"{section!r} is a table, headed {head}")
    study = content.get("study", {})
    check_keys(study, STUDY_KEYS, "[study]")
    fields = {key: _checked(key, value) for key, value in study.items()}
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
    fields |= comparison_fields(fields, fields["space"], arms)
    if "journal" in content:
        fields["journal"] = tuple(_each("journal", content["journal"], JournalEntry.from_dict))
    if any(arm.reported for arm in fields.get("arms", ())):
        fields["published"] = _published(fields, content.get("published"))
    return fields


def _each(name: str, tables: list[dict[str, Any]], read: Callable[[dict[str, Any]], T]) -> list[T]:
    """What `read` makes of each table; an error of it tells which."""
    found = []
    for number, table in enumerate(tables, start=1):
        try:
            found.append(read(table))
        except SpecError as error:
            raise SpecError(name, f"[[{name}]] {number}: {error}") from error
    return found


def _extensions(fields: dict[str, Any], families: list[str], folder: Path) -> dict[str, Any]:
    """The fields that name a person's own files, which are loaded from the study file's folder."""
    found: dict[str, Any] = {}
    dataset, names = fields.get("dataset", ""), fields.get("extensions", [])
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
    check_keys(written, PUBLISHED, "[published]")
    return {key: _checked(key, value) for key, value in written.items()}


def _checked(key: str, value: Any) -> Any:
    if key in FIELDS:
        check_field(key, value, FIELDS[key])
    elif not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise SpecError(key, f"{key} is a list of texts, but got {shown(value)}")
    if key in ("title", "source") and not value.isprintable():
        raise SpecError(key, f"{key} must be one line of printable text")
    return value


def write_study_file(spec: StudySpec) -> str:
    """The specification in TOML: `read_study_file` gives it back."""
    plain = spec.to_dict()
    # What follows from the arms is left out; what there is none of is, too.
    follows = ("trials", "sampler", "base", "budget") if spec.is_comparison else ("repeats",)
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


def listing() -> str:
    """`name  title: what runs` of each ready-made study, in columns."""
    files = ready_made()
    widest = max(len(file.stem) for file in files)
    lines = []
    for file in files:
        spec = StudySpec(**{"dataset": "fashion_mnist", **read_study_file(file)})
        what = f"{spec.title}: {size_in_words(spec)}, {spec.dataset}"
        lines.append(f"{file.stem:<{widest}}  {what}")
    return "\n".join(lines)


def size_in_words(spec: StudySpec) -> str:
    """`4 arms x 3 repeats of up to 100 epochs`, `50 trials of up to 12 epochs`."""
    what = f"{spec.trials} trials" if spec.trials > 1 else "1 trial"
    if spec.is_comparison:
        arms = f"{len(spec.arms)} arms" if len(spec.arms) > 1 else "1 arm"
        what = f"{arms} x {spec.repeats} repeat{'s' if spec.repeats > 1 else ''}"
    limit = "" if spec.limit is None else f" on {spec.limit} images"
    return f"{what} of up to {spec.epochs} epochs{limit}"
