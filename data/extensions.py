"""The user's own Python files, each imported once by its path. Does not import torch."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import subprocess
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from data.errors import DataError, reason
from data.reading import read_regular

MAX_BYTES = 2**22
_PACKAGES = ("data", "models", "search")  # which have registries
_INSTALLED = ("site-packages", "dist-packages")  # folders of packages, also shared ones
_PREFIX = "cnn_search_file_"  # of the names of modules
_FIND = """
import sys
from importlib.util import find_spec
for name in sys.argv[1:]:
    spec = find_spec(name)
    print(spec and next(iter(spec.submodule_search_locations or [spec.origin])))
"""
_lock = threading.RLock()  # reentrant: a file may load another
_loaded: dict[tuple[Path, str], LoadedFile] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedFile:
    """A user's file, and the module made from it."""

    path: Path  # absolute
    sha256: str  # of its bytes, hexadecimal
    source: str
    module: ModuleType  # what it defined
    # What it added to registries: the registry, the entry's name, the entry.
    entries: tuple[tuple[dict[Any, Any], Any, Any], ...] = field(repr=False)


def load_file(path: str | Path) -> LoadedFile:
    """Run the file once per process, and again as another module if changed. Raises DataError."""
    try:
        absolute = Path(path).expanduser().resolve()
        content = read_regular(absolute, MAX_BYTES)
        source = importlib.util.decode_source(content)
    except (OSError, RuntimeError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read the Python file {path} ({reason}); check the path") from error
    sha256 = hashlib.sha256(content).hexdigest()
    with _lock:
        if (absolute, sha256) not in _loaded:
            before = {id(registry): entries for registry, entries in _registries()}
            module = run_source(absolute, source, f"{_PREFIX}{sha256[:12]}_{absolute.stem}")
            added = tuple(
                (registry, name, entry)
                for registry, entries in _registries()
                for name, entry in entries.items()
                if before.get(id(registry), {}).get(name) is not entry
            )
            _loaded[absolute, sha256] = LoadedFile(
                path=absolute, sha256=sha256, source=source, module=module, entries=added
            )
        return _loaded[absolute, sha256]


def is_reference(name: str) -> bool:
    """Whether `name` has the form FILE.py:FUNCTION."""
    file, colon, function = name.rpartition(":")
    return bool(colon) and file.endswith(".py") and function.isidentifier()


def load_function(reference: str) -> Callable[..., Any]:
    """The function that "FILE.py:FUNCTION" names. Raises DataError."""
    file, _, name = reference.rpartition(":")
    loaded = load_file(file)
    function: object = getattr(loaded.module, name, None)
    if not callable(function):
        raise DataError(f"{loaded.path} has no function {name!r}; define it, or name another")
    return function


def run_source(path: Path, source: str, name: str) -> ModuleType:
    """Run the code as a module; `path` is for messages, need not exist. Raises DataError."""
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _in_file(path, error) from error
    return module


def not_installed(file: LoadedFile) -> list[Path]:
    """Where the file's imports are that no installed package provides, such as its neighbours.

    They may change without notice, or be missing elsewhere.
    """
    nodes = [*ast.walk(ast.parse(file.source))]
    imported = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    standard, places = Path(sysconfig.get_path("stdlib")).resolve(), dict[str, Path]()
    for name in {it.partition(".")[0] for it in imported} - {"", "__main__", *_PACKAGES}:
        with suppress(ValueError):  # made without a spec
            spec = importlib.util.find_spec(name)
            if spec and (spec.submodule_search_locations or spec.has_location):
                location = next(iter(spec.submodule_search_locations or [spec.origin or ""]))
                place = Path(location).resolve()
                if not place.is_relative_to(standard) and place.parent.name not in _INSTALLED:
                    places[name] = place
    if not places:
        return []
    # Without what this process, its folder and its environment add to the path.
    command = [sys.executable, "-E", "-P", "-X", "utf8", "-c", _FIND, *places]
    installed = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    return sorted({*places.values()} - {Path(line).resolve() for line in installed.splitlines()})


@contextmanager
def kept_registries() -> Iterator[None]:
    """Undo what the block changes in registries."""
    with _lock:
        before = _registries()
        try:
            yield
        finally:
            for registry, entries in before:
                for name in registry.keys() - entries.keys():
                    del registry[name]
                registry.update(entries)


def _registries() -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    """Each with a copy: the dictionaries named in capitals in the modules imported so far."""
    modules = [it for name, it in sys.modules.copy().items() if name.partition(".")[0] in _PACKAGES]
    named = [pair for module in modules for pair in vars(module).copy().items()]
    found = {id(it): it for name, it in named if name.isupper() and type(it) is dict}
    return [(it, it.copy()) for it in found.values()]


def file_of(function: Callable[..., Any]) -> Path | None:
    """The file with its code; None for what has none of its own, such as a partial."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return Path(code.co_filename) if code else None


def call_own(path: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the user's function from the file at `path` returns; its errors become DataErrors."""
    try:
        return function(*arguments)
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise _in_file(path, error) from error


def _in_file(path: Path, error: BaseException) -> DataError:
    """`mydata.py, line 3: NameError: name 'x' is not defined; correct the file`, on one line."""
    kind, message = type(error).__name__, reason(error)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    if isinstance(error, SyntaxError):
        lines, message = [error.lineno], error.msg
    where = f", line {lines[-1]}" if lines and lines[-1] is not None else ""
    told = f": {message}" if message != kind else ""
    remedy = "correct the file"
    if isinstance(error, ModuleNotFoundError):
        remedy = "install it as a package, or put its code into the file"
    return DataError(f"{path}{where}: {kind}{told}; {remedy}")


def line_of(error: BaseException) -> str:
    """`mynet.py, line 3: ` if the user's own code ran when the error occurred; else nothing."""
    own = [
        f"{Path(frame.f_code.co_filename).name}, line {line}: "
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).startswith(_PREFIX)
    ]
    return own[-1] if own else ""
