"""Caches decoded pictures as one file in the data directory: a large folder is decoded once.

The cache is valid while every file keeps its name, size and times. Processes that start together
decode once and share the result. The cache can be deleted at any time; what was not used for a
month goes when something else is cached.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL
from filelock import FileLock

from data.arrays import Part
from data.folders.held_out import RECORDS
from data.folders.preparation import Preparation
from data.reading import move

VERSION = 3  # raise it if pictures become other pixels, or the format of the cache changes
WORTH = 10_000_000  # bytes of picture files from which to cache, about a second's decoding
UNUSED = 30 * 24 * 3600  # seconds after which a file goes: its folder may have moved


def cached(
    name: str,
    depends: Callable[[], Iterable[Path]],
    data_dir: Path,
    make: Callable[[], Part],
    fits: Callable[[Part], bool] = lambda _: True,
) -> Part:
    """What `make` returns, or returned when the files and folders of `depends()` were the same.

    `name` identifies this way of reading them; a changed result replaces the one before. `make`
    may also read and write records of what is held out; if any has changed since, `fits` says
    whether it would still return the same, judging by all but images and labels. Nothing is
    cached without write permission or disk space, or if the pictures change meanwhile.
    """

    def recorded() -> str:
        return _state(lambda: [data_dir / RECORDS])[0]

    before, size = _state(depends)
    if size < WORTH:
        return make()
    path = data_dir / "pictures" / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.npz"
    # Without the lock, because each process takes seconds to read it; it is replaced as a whole.
    if (kept := _read(path, before, recorded(), fits)) is not None:
        return kept
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError:
        return make()
    with lock:
        if (kept := _read(path, before, recorded(), fits)) is not None:
            return kept  # another process was faster
        part = make()
        if _state(depends)[0] == before:
            _store(path, before + recorded(), part)
    return part


def _state(depends: Callable[[], Iterable[Path]]) -> tuple[str, int]:
    """A digest of names, sizes and times, and the bytes of all files; 0 if one is unreadable."""
    digest, total = hashlib.sha256(f"{VERSION} {PIL.__version__}".encode()), 0
    try:
        for entry in (entry for path in depends() if path.exists() for entry in _files(path)):
            facts = entry.stat()
            times = f"{facts.st_mtime_ns} {facts.st_ctime_ns}"  # no program can set the second back
            digest.update(os.fsencode(f"{os.fspath(entry)}\0{facts.st_size} {times}\n"))
            total += facts.st_size
    except OSError:
        return "", 0
    return digest.hexdigest(), total


def _files(path: Path | os.DirEntry[str]) -> Iterator[Path | os.DirEntry[str]]:
    """The path itself, or all files below it, sorted. Three times as fast as with `Path`s alone."""
    if not path.is_dir():
        yield path
        return
    with os.scandir(path) as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            yield from _files(entry)


def _read(path: Path, state: str, recorded: str, fits: Callable[[Part], bool]) -> Part | None:
    """What was cached in that state, if it fits; None if nothing was, or if it is damaged."""
    try:
        with path.open("rb") as file, np.load(file) as kept:
            told = json.loads(str(kept["told"]))
            then = told.pop("state")
            told["preparation"] = Preparation.from_dict(told["preparation"])
            told["notes"] = tuple(told["notes"])
            part = Part((), (), **told)
            if then != state + recorded and not (then.startswith(state) and fits(part)):
                return None
            part = replace(part, images=kept["images"], labels=kept["labels"])
    except (OSError, BadZipFile, EOFError, ValueError, KeyError, TypeError):
        return None
    with contextlib.suppress(OSError):  # may belong to another account
        path.touch()
    return part


def _store(path: Path, state: str, part: Part) -> None:
    told = {it.name: getattr(part, it.name) for it in fields(part)[2:]} | {"state": state}
    text = json.dumps(told, default=asdict)
    partial = path.with_suffix(".partial")  # one name for all processes: the lock is held
    with contextlib.suppress(OSError):  # another process may read, or delete, one of them
        for other in path.parent.glob("*.npz"):
            if time.time() - other.stat().st_mtime > UNUSED:
                other.unlink()
    with contextlib.suppress(OSError):
        try:
            with partial.open("wb") as file:
                np.savez(file, images=part.images, labels=part.labels, told=text)
            move(partial, path)
        finally:
            partial.unlink(missing_ok=True)
