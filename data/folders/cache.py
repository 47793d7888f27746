"""Decoded pictures, kept as one file in the data directory: a folder of many is decoded once.

What is kept holds while every file has the name, the size and the times that it had. Processes that
start together decode once and share it; it is written whole or not at all, and can be deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import PIL
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from data.arrays import Part
from data.folders.preparation import Preparation

VERSION = 1  # raise it where pictures become other pixels, or what is kept has another form
WORTH = 10_000_000  # bytes of picture files, about a second's decoding: from there on it is kept


def cached(
    name: str,
    folders: Sequence[Path],
    data_dir: Path,
    make: Callable[[], Part],
    depends: Callable[[], bytes] = bytes,
) -> Part:
    """What `make` gives, or gave when the files in `folders` and one level below were the same.

    Raises what `make` raises. Without the right to write, or room, nothing is kept.

    Args:
        name: of this reading of these folders; one that changed takes the place of the one before.
        folders: those that are absent count as such.
        depends: gives what the result depends on besides; asked after `make`, which may change it.
    """
    files, size = _signature(folders)
    if size < WORTH:
        return make()
    path = data_dir / "pictures" / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}.kept"

    def key() -> str:
        parts = (name, str(VERSION), PIL.__version__, files)
        return hashlib.sha256(b"\0".join([*map(os.fsencode, parts), depends()])).hexdigest()

    if (kept := _read(path, key())) is not None:
        return kept
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError:
        return make()
    with lock:
        # Another process may have made it meanwhile.
        if (kept := _read(path, key())) is not None:
            return kept
        part = make()
        if _signature(folders)[0] == files:
            _store(path, key(), part)
    return part


def _signature(folders: Sequence[Path]) -> tuple[str, int]:
    """Of names, sizes and times, and the bytes of all files; 0 bytes where a folder is unreadable.

    0.2 s for 60 000 files. The time of a change of status is one that no program can set back.
    """
    lines, total = [], 0
    try:
        for folder in folders:
            lines.append(f"{folder.name}/")
            for above in _entries(folder) if folder.is_dir() else ():
                inside = _entries(above.path) if above.is_dir() else [above]
                for entry in inside:
                    facts = entry.stat()
                    times = f"{facts.st_mtime_ns} {facts.st_ctime_ns}"
                    lines.append(f"{above.name}/{entry.name}\0{facts.st_size} {times}")
                    total += facts.st_size
    except OSError:
        return "", 0
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest(), total


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        yield from sorted(found, key=lambda entry: entry.name)


def _read(path: Path, key: str) -> Part | None:
    """What was kept under that key; None where nothing was, or it is damaged."""
    try:
        with safe_open(path, "numpy") as kept:
            facts = kept.metadata()
            if facts["key"] != key:
                return None
            images, labels = kept.get_tensor("images_NCHW"), kept.get_tensor("labels_N")
        stored = json.loads(facts["part"])
        preparation, notes = Preparation.from_dict(stored.pop("preparation")), stored.pop("notes")
        images_NHWC = images.transpose(0, 2, 3, 1)
        return Part(images_NHWC, labels, **stored, preparation=preparation, notes=tuple(notes))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _store(path: Path, key: str, part: Part) -> None:
    told = ("class_names", "validation", "test_digests", "test_is_drawn", "notes")
    stored = {name: getattr(part, name) for name in told}
    stored["preparation"] = part.preparation.to_dict()
    tensors = {
        # As training takes them, so that they need not be laid out anew at each start.
        "images_NCHW": np.ascontiguousarray(part.images.transpose(0, 3, 1, 2)),
        "labels_N": np.asarray(part.labels, dtype=np.int64),
    }
    partial = path.with_suffix(".partial")  # one for all: the lock is held
    with contextlib.suppress(OSError):
        try:
            save_file(tensors, partial, metadata={"key": key, "part": json.dumps(stored)})
            partial.replace(path)
        except SafetensorError:  # no room
            pass
        finally:
            partial.unlink(missing_ok=True)
