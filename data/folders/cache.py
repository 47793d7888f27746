"""Decoded pictures, kept as one file in the data directory: a folder of many is decoded once.

What is kept holds while every file has the name, the size and the times that it had. Processes that
start together decode once and share it; it can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import PIL
from filelock import FileLock

from data.arrays import Part
from data.folders.preparation import Preparation

VERSION = 2  # raise it where pictures become other pixels, or what is kept has another form
WORTH = 10_000_000  # bytes of picture files, about a second's decoding: from there on it is kept


def cached(name: str, depends: Sequence[Path], data_dir: Path, make: Callable[[], Part]) -> Part:
    """What `make` gives, or gave when all in `depends`, files or folders, was the same.

    Raises what `make` raises. Without the right to write, or room, nothing is kept.

    Args:
        name: of this reading of these folders; one that changed takes the place of the one before.
    """
    if _state(depends)[1] < WORTH:
        return make()
    path = data_dir / "pictures" / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.npz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError:
        return make()
    with lock:
        if (kept := _read(path, _state(depends)[0])) is not None:
            return kept
        part = make()
        _store(path, _state(depends)[0], part)  # making it may have changed what it depends on
    return part


def _state(depends: Sequence[Path]) -> tuple[str, int]:
    """A digest of names, sizes and times, and the bytes of all files.

    The time of a change of status is one that no program can set back.
    """
    digest, total = hashlib.sha256(f"{VERSION} {PIL.__version__}".encode()), 0
    for path in depends:
        alone: list[tuple[str, list[str], list[str]]] = [(str(path.parent), [], [path.name])]
        for place, folders, names in os.walk(path, followlinks=True) if path.is_dir() else alone:
            folders.sort()
            for name in sorted(names):
                with contextlib.suppress(OSError):
                    facts = Path(place, name).stat()
                    line = f"{place}/{name} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
                    digest.update(os.fsencode(line))
                    total += facts.st_size
    return digest.hexdigest(), total


def _read(path: Path, state: str) -> Part | None:
    """What was kept in that state; None where nothing was, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file) as kept:
            told = json.loads(str(kept["told"]))
            if told.pop("state") != state:
                return None
            told["preparation"] = Preparation.from_dict(told["preparation"])
            told["notes"] = tuple(told["notes"])
            return Part(kept["images"], kept["labels"], **told)
    except (OSError, BadZipFile, EOFError, ValueError, KeyError, TypeError):
        return None


def _store(path: Path, state: str, part: Part) -> None:
    names = ("class_names", "validation", "test_digests", "test_is_drawn", "notes")
    told = {"state": state, "preparation": asdict(part.preparation)}
    told |= {name: getattr(part, name) for name in names}
    partial = path.with_suffix(".partial")  # one for all: the lock is held
    with contextlib.suppress(OSError):
        try:
            with partial.open("wb") as file:
                np.savez(file, images=part.images, labels=part.labels, told=json.dumps(told))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
