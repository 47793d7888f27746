"""Study files: TOML in, `StudySpec` out; each error names its key."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from data.datasets import FOLDER, NPZ
from data.errors import did_you_mean
from data.extensions import is_reference
from data.reading import read_regular
from models import FAMILIES, Parameter
from models.checks import shown
from search.spec.arms import PUBLISHED, TEXT, Arm
from search.spec.config import FIELDS, StudySpec
from search.spec.domains import SpecError, as_spec_error, check_fields, check_keys, corners
from search.spec.extensions import file_of, load_extension, register_families
from search.spec.parameters import families_in, read_tables
from search.spec.recipe import RECIPE

READY_MADE = Path(__file__).parent.parent / "studies"
ARRAYS = ("arm", "journal", "trial")  # sections that may occur several times
SECTIONS = ("study", "space", "baseline", "arm", "journal", "published")
LISTS = {
    "extensions": "Python files of your own",
    "metrics": "what is also recorded each epoch",
}
LISTED = ("augmentation", "schedule", "objective")  # --help describes what they may name
KEYS = {
    "base": replace(TEXT, description="name of the [[arm]] that others are compared with"),
    **{key: one for key, one in FIELDS.items() if key != "reading_version"},
}
# Settings of a search, and the only value that each may have in a comparison.
SEARCHING = {"trials": None, "sampler": "grid", "pruner": "none", "minimize_also": None}
MAX_BYTES = 1_000_000
# A quoted text, or a word after an equals sign, which needs no quotes: a shell strips them.
_TEXT = re.compile(r"""("[^"]*"|'[^']*')|=\s*(?!(?:true|false)\b)([A-Za-z_][^\s,"']*)""")


class StudyFileError(ValueError):
    """A study file that cannot be used: file, key and what is wrong, on one line."""


def ready_made() -> list[Path]:
    """The files of the ready-made studies: the default one, then by name."""
    return sorted(READY_MADE.glob("*.toml"), key=lambda file: (file.stem != "default", file.stem))


def describe_keys() -> dict[str, dict[str, str]]:
    """What may stand in [study] and [space]: each key's meaning, and its default if it has one.

    [space] has a section for each registered family.
    """
    usual = {one.name: one.default for one in dataclasses.fields(StudySpec)}
    study = {key: _in_words(key, one, usual.get(key)) for key, one in KEYS.items()}
    found = {"[study] in a study file": {**study, **LISTS}}
    sections = {"any network": RECIPE} | {name: it.parameters for name, it in FAMILIES.items()}
    for name, parameters in sections.items():
        if parameters:
            told = {key: _in_words(key, one, one.default) for key, one in parameters.items()}
            found[f"[space] in a study file, {name}"] = told
    return found


def _in_words(key: str, one: Parameter, default: Any) -> str:
    has_names = one.options and one.kinds == (str,) and key not in LISTED
    words = [", ".join(one.options)] if has_names else []
    if one.required:
        words.append("required")
    elif default not in (None, "", dataclasses.MISSING):
        text = default if isinstance(default, str) else json.dumps(default)
        words.append(f"default: {text}")
    return f"{one.description} ({'; '.join(words)})" if words else one.description


def find_study_file(name_or_path: str) -> Path:
    """A ready-made study by name, or a file by path; raises StudyFileError if there is neither."""
    known = {file.stem: file for file in ready_made()}
    if name_or_path in known:
        return known[name_or_path]
    with suppress(OSError, ValueError):  # a name that is too long, or has a NUL byte
        if Path(name_or_path).is_file():
            return Path(name_or_path)
    hint = did_you_mean(name_or_path, known)
    raise StudyFileError(
        f"no study file {name_or_path!r}{hint} (give a path to a .toml file or one of: "
        f"{', '.join(known)})"
    )


def read_study_file(path: Path) -> dict[str, Any]:
    """The file's content, as arguments of `StudySpec`.

    Raises StudyFileError if it is unreadable or not TOML, or has an unknown key or a wrong value.
    """
    try:
        return _arguments(_read_toml(path), path.parent)
    except SpecError as error:
        raise StudyFileError(f"{path}: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")  # as some editors save it
        return tomllib.loads(text)
    except OSError as error:
        raise StudyFileError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise StudyFileError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except (RecursionError, ValueError) as error:  # ValueError: an invalid date
        raise StudyFileError(f"{path}: malformed TOML: {error}") from error


def read_configurations(given: Iterable[str | Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The user's own configurations: tables of parameters, whose values are not yet checked.

    Given as tables; as text, `"learning_rate=3e-3, depth=4"`; as TOML files with [[trial]] tables,
    `"mine.toml"`. Raises StudyFileError or SpecError if that holds no parameters.
    """
    found: list[dict[str, Any]] = []
    for one in given:
        if isinstance(one, Mapping):
            found.append(dict(one))
            continue
        if str(one).endswith(".toml"):
            content = _read_toml(Path(one))
            with as_spec_error("enqueue", f"{one}: "):
                _check_tables(content, ("trial",))
        else:
            quoted = _TEXT.sub(lambda found: found[1] or f'="{found[2]}"', str(one))
            try:
                content = tomllib.loads(f"trial = [{{{quoted}}}]")
            except (RecursionError, ValueError):
                content = {}
        tables = content.get("trial")
        if not (
            content.keys() == {"trial"}
            and isinstance(tables, list)
            and all(it and isinstance(it, dict) for it in tables)
        ):
            raise SpecError(
                "enqueue",
                f"enqueue is not usable: {shown(one)}; write 'learning_rate=3e-3, depth=4', or "
                "name a .toml file of [[trial]] tables",
            )
        found += tables
    return found


def _check_tables(content: dict[str, Any], sections: Sequence[str]) -> None:
    check_keys(content, sections, "section")
    for section, written in content.items():
        tables = written if section in ARRAYS else [written]
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            head = f"[[{section}]]" if section in ARRAYS else f"[{section}]"
            raise SpecError(section, f"{section!r} must be a table, headed {head}")


def _arguments(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    _check_tables(content, SECTIONS)
    study, tables = content.get("study", {}), content.get("arm", [])
    check_keys(study, (*KEYS, *LISTS), "key", " in [study]")
    check_fields({key: value for key, value in study.items() if key in KEYS}, KEYS)
    for key in LISTS:
        listed = study.get(key, [])
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise SpecError(key, f"{key} must be a list of texts, but got {shown(listed)}")
    arms = [
        {
            "name": table.get("name", ""),
            "reported": table.get("reported", {}),
            "values": {key: it for key, it in table.items() if key not in ("name", "reported")},
        }
        for table in tables
    ]
    plain: dict[str, Any] = {"space": {}, **content, "arms": arms}
    fields = {key: value for key, value in study.items() if key != "base"}
    if names := fields.get("extensions"):
        fields["extensions"] = tuple(load_extension(name, folder / name) for name in names)
    register_families(families_in(plain), folder)
    if is_reference(fields.get("dataset", "")):
        fields["dataset"] = str(folder / fields["dataset"])
    kind, colon, path = fields.get("dataset", "").partition(":")
    if f"{kind}{colon}" in (FOLDER, NPZ) and not Path(path).exists() and (folder / path).exists():
        fields["dataset"] = f"{kind}:{folder / path}"
    read = read_tables(plain, by_user=True)
    fields |= {key: it for key, it in read.items() if it not in (None, ())}
    for one in (it for entry in read["journal"] for it in entry.expect):
        if (one.margin or 0) >= 1 and one.metric.endswith(("accuracy", "error")):
            got = f"margin = {one.margin:g} of {one.metric} is 100 points or more"
            raise SpecError("margin", f"[[journal]] expect: {got}; 0.01 is one point")
    if "arm" in content:
        fields["arms"] = _in_order(fields, study)
    elif "base" in study:
        raise SpecError("base", "base is the name of an arm; leave it out of a search")
    if any(arm["reported"] for arm in arms):
        own = {key: study[key] for key in PUBLISHED if key in study}
        fields["published"] = content.get("published", own)
    return fields


def _in_order(fields: dict[str, Any], study: dict[str, Any]) -> tuple[Arm, ...]:
    """The arms, the base first; raises SpecError for what only a search can have."""
    arms = fields.get("arms", ())
    names = [arm.name for arm in arms]
    if not arms:
        raise SpecError("arm", "arm = [] leaves nothing to compare; give [[arm]] tables")
    for key, only in SEARCHING.items():
        if study.get(key, only) != only:
            raise SpecError(
                key,
                f"{key} is only for a search, but arms are all trained to their end, arms x "
                f"repeats trials; leave {key} = {shown(study[key])} out",
            )
    for name, domain in fields["space"].items():
        if len(corners(domain)) > 1:
            raise SpecError(
                name,
                f"{name}: with [[arm]], [space] is the base configuration and holds one value "
                "each (a list that is one value is written [[1, 2]])",
            )
    base = study.get("base", names[0])
    if base not in names:
        there = f"no arm is called {base!r}; there are: {', '.join(names)}"
        raise SpecError("base", f"base: {there}")
    return tuple(sorted(arms, key=lambda arm: arm.name != base))


def write_study_file(spec: StudySpec) -> str:
    """The specification in TOML, as `read_study_file` reads it back."""
    plain = spec.to_dict()
    # Left out: what follows from the arms, and what does not apply.
    follows = (*SEARCHING, "budget") if spec.is_comparison else ("repeats",)
    study = {key: plain[key] for key in (*KEYS, "metrics") if key not in ("base", *follows)}
    named = {file_of(name) for name in (*spec.families, spec.dataset)}
    study["extensions"] = [one.name for one in spec.extensions if one.name not in named]
    content = {
        "study": {key: value for key, value in study.items() if value not in (None, [])},
        "space": plain["space"],
        "arm": [
            {"name": arm["name"], **arm["values"], **_given({"reported": arm["reported"]})}
            for arm in plain["arms"]
        ],
        "journal": [_given(entry) for entry in plain["journal"]],
    }
    # Tables that mean something even if they are empty.
    tables = {} if plain["baseline"] is None else {"baseline": plain["baseline"]}
    if any(arm.reported for arm in spec.arms):
        tables["published"] = plain["published"]
    return tomli_w.dumps({**_given(content), **tables})


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """The values without empty tables and texts."""
    return {name: value for name, value in values.items() if value not in ({}, "", [])}
