"""The user's own Python files that a study needs: run once, and pinned to their version.

A file named in `[study] extensions` adds entries to registries when it is imported. A family
"FILE.py:FUNCTION" becomes an entry of `FAMILIES` under that name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from data.datasets import DATASETS
from data.errors import shown
from data.extensions import (
    MAX_BYTES,
    LoadedFile,
    is_reference,
    kept_registries,
    load_file,
    not_installed,
    run_source,
)
from data.reading import read_regular
from models import FAMILIES, Family, family_from_function
from search.spec.domains import SpecError, as_spec_error

SHOWN = 12  # digits of a SHA-256 in messages
CopyOf = Callable[["Extension"], Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """name: the file's, as in the study. path: where it was when the study was made."""

    name: str
    sha256: str
    path: str = field(compare=False)

    def matches(self, content: bytes | None) -> bool:
        """Whether that is the study's version of the file."""
        return content is not None and _digest(content) == self.sha256


class ExtensionError(SpecError):
    """A stored study's file is missing, or is another version."""

    def __init__(self, extension: Extension, message: str) -> None:
        super().__init__("extensions", message)
        self.extension = extension


_loaded: dict[str, LoadedFile] = {}  # in this process, by the name that studies use
_families: dict[tuple[str, str], Family] = {}  # all versions so far, by name and code


def file_of(reference: str) -> str:
    """The file of "FILE.py:FUNCTION"."""
    return reference.rpartition(":")[0]


def load_extension(name: str, path: Path) -> Extension:
    """Put what the file at `path` adds to registries into them; each version of it runs once.

    Raises SpecError if it cannot be read, or raises.
    """
    with as_spec_error("extensions"):
        _loaded[name] = loaded = load_file(path)
    for registry, key, entry in loaded.entries:  # another version's may have replaced them
        if registry is FAMILIES:
            _register(key, entry, entry.source or loaded.source)
        else:
            registry[key] = entry
    return Extension(name=name, sha256=loaded.sha256, path=str(loaded.path))


def register_families(references: Iterable[str], folder: Path | None = None) -> None:
    """Add those of the form "FILE.py:FUNCTION" to `FAMILIES`.

    Their files are in `folder`; None: where they were loaded from, or else the current directory.
    Raises SpecError if a file or a function cannot be used.
    """
    for reference in filter(is_reference, references):
        name = file_of(reference)
        if folder is not None or name not in _loaded:
            load_extension(name, (folder or Path()) / name)
        _enter(reference, _loaded[name].module, _loaded[name].source)


def register_from_here(references: Iterable[str]) -> None:
    """The same, but a file in the current directory comes before one loaded from elsewhere."""
    for reference in references:
        here = read_own(Path(file_of(reference)))
        register_families([reference], None if here is None else Path())


def _enter(reference: str, module: object, source: str) -> None:
    if reference in FAMILIES and FAMILIES[reference].source == source:
        return
    function = getattr(module, reference.rpartition(":")[2], None)
    if function is None:
        raise SpecError("family", f"{reference}: the file has no such function; define it")
    with as_spec_error("family"):
        _register(reference, family_from_function(reference, function), source)


def _register(name: str, family: Family, source: str) -> None:
    FAMILIES[name] = _families[name, source] = dataclasses.replace(family, source=source)


def restore_family(name: str, source: str) -> None:
    """Restore the entry of `FAMILIES` from the code in a bundle; no file is needed.

    The code runs: use only bundles from people you trust. Other registries stay as they are. Raises
    SpecError if it raises, or has no such family.
    """
    before = FAMILIES.get(name)
    if before is not None and before.source == source:
        return
    if (name, source) in _families:
        FAMILIES[name] = _families[name, source]
        return
    digest = _digest(source.encode())
    with as_spec_error("family"), kept_registries():
        module = run_source(Path(name), source, f"cnn_search_bundle_{digest[:SHOWN]}")
        family = FAMILIES.get(name)
    if is_reference(name):
        _enter(name, module, source)
    elif family is None or family is before:
        raise SpecError("family", f"the bundle's code has no family {name!r}")
    else:
        _register(name, family, source)


def needed(
    extensions: Iterable[Extension], families: Iterable[str], dataset: str
) -> tuple[Extension, ...]:
    """The extensions, plus those that the families and the data set name.

    Raises SpecError if a file cannot be read or used.
    """
    found = {one.name: one for one in extensions}
    for name in map(file_of, filter(is_reference, (*families, dataset))):
        if name not in found:
            path = _loaded[name].path if name in _loaded else Path(name)
            found[name] = load_extension(name, path)
    register_families(families)
    return tuple(found.values())


def check_complete(extensions: Iterable[Extension], families: Iterable[str], dataset: str) -> None:
    """Check that a new study's files import no others of the user's, which no study would store.

    Those of data alone may: the images are compared instead. Raises SpecError.
    """
    networks = {_loaded[file_of(it)].path for it in families if is_reference(it)}
    own = _loaded[file_of(dataset)].path if is_reference(dataset) else None
    for one in extensions:
        file = _loaded[one.name]
        registries = [registry for registry, _, _ in file.entries]
        is_data = file.path == own or bool(registries)
        if is_data and file.path not in networks and all(it is DATASETS for it in registries):
            continue
        if others := not_installed(file):
            raise SpecError(
                "extensions",
                f"{one.name} imports {others[0]}, which a study does not store; put its code into "
                f"{one.name}, or install it as a package (pip install --editable)",
            )


def require(
    extensions: Iterable[Extension],
    families: Iterable[str],
    dataset: str,
    copy_of: CopyOf | None = None,
) -> None:
    """Load what a stored study needs, from where it was or from the current directory.

    The data set's own file is not run, and need not be there before its images are. Where a file is
    missing or another version, `copy_of` names a copy to load. Raises ExtensionError if that is
    None, or no copy of the study's version, and SpecError if a file is named without its SHA-256,
    as only a changed database does.
    """
    named = {file_of(it) for it in (*families, dataset) if is_reference(it)}
    # The user's own files, which are loaded already, may read another version's study.
    for name in sorted(named - {one.name for one in extensions} - _loaded.keys()):
        raise SpecError(
            "extensions", f"the study names {shown(name)} without its SHA-256, so it is not run"
        )
    for one in extensions:
        of_data = is_reference(dataset) and file_of(dataset) == one.name
        there = versions_of(one)
        place = next((it for it, content in there.items() if one.matches(content)), None)
        if place is None and copy_of is not None and one.matches(read_own(copy_of(one))):
            place = copy_of(one)
        if there and place is None:
            now, was = _digest(next(iter(there.values())))[:SHOWN], one.sha256[:SHOWN]
            raise ExtensionError(
                one,
                f"{one.name} has changed since the study was made (SHA-256 {now}, was {was}); put "
                "that version back, or name another study",
            )
        if of_data:
            continue
        if place is None:
            raise ExtensionError(
                one,
                f"the study needs {one.name}, which is not at {one.path}; put it there or into the "
                "current directory",
            )
        load_extension(one.name, place)
    register_families(families)


def versions_of(one: Extension) -> dict[Path, bytes]:
    """What is where the file may be: its stored path, the current directory, where it was loaded
    from."""
    places = [Path(one.path), Path(Path(one.name).name)]
    places += [_loaded[one.name].path] if one.name in _loaded else []
    found = ((place, read_own(place)) for place in places)
    return {place: content for place, content in found if content is not None}


def contents(extensions: Iterable[Extension]) -> dict[str, bytes]:
    """The files that this process has loaded, by the names that studies use for them."""
    names = (one.name for one in extensions if one.name in _loaded)
    return {name: _loaded[name].path.read_bytes() for name in names}


@contextmanager
def handed_over(files: Mapping[str, bytes]) -> Iterator[None]:
    """Load another process's `contents`. Raises SpecError."""
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, content) in enumerate(files.items()):
            file = Path(folder, str(number), Path(name).name)
            file.parent.mkdir()
            file.write_bytes(content)
            load_extension(name, file)
        yield


def read_own(path: Path) -> bytes | None:
    """The content of a user's file; None if it cannot be read."""
    try:
        return read_regular(path.expanduser(), MAX_BYTES)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: ~unknown_user
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
