"""Files that are being written, and those that a killed process left half-written.

A temporary file is locked by whoever writes it, and the system lifts the lock when that process
ends, however it ends. So one that can be locked is left over. Its name says which host wrote it:
locks of another one may not be seen across a network file system, so its files must be old as well.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: there, age alone tells
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None
OLD_SECONDS = 24 * 3600.0
# `trial-3.pt.<host>-<random>.tmp`; earlier versions wrote `trial-3.pt.<pid>.tmp` and `.link`.
_OURS = re.compile(r".+\.(?P<host>[0-9a-f]{8})-[0-9a-f]{8}\.tmp")
_EARLIER = re.compile(r".+\.(?P<pid>[0-9]{1,10})\.(tmp|link)")


@contextmanager
def own_temporary(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file beside `path`, open for writing; gone at the end, unless it was renamed."""
    temporary, file = _create(path)
    try:
        with file:
            yield temporary, file
    finally:
        temporary.unlink(missing_ok=True)


def _create(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        temporary = path.with_name(f"{path.name}.{_this_host()}-{secrets.token_hex(4)}.tmp")
        file = temporary.open("xb")
        if HAS_LOCKS:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        # Swept away between the two lines above, it is made anew.
        if temporary.exists():
            return temporary, file
        file.close()


def write_atomically(path: Path, payload: bytes) -> None:
    """Replace `path` so that a reader, or a crash at any moment, sees the old or the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with own_temporary(path) as (temporary, file):
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
        if not HAS_LOCKS:
            file.close()  # Windows renames no open file
        temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; systems that cannot open folders do without."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except (PermissionError, IsADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete_abandoned(folder: Path) -> list[Path]:
    """Delete the temporary files below a folder whose writers are gone; returns them.

    Those that cannot be opened or deleted stay.
    """
    found = []
    for path in folder.rglob("*.*"):
        named = _OURS.fullmatch(path.name) or _EARLIER.fullmatch(path.name)
        if named is None or path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError):  # also where its writer has just renamed it
            if _delete_if_abandoned(path, named):
                found.append(path)
    return found


def _delete_if_abandoned(path: Path, named: re.Match[str]) -> bool:
    with path.open("r+b") as file:
        is_free = _lock(file)
        if is_free is False:
            return False
        is_old = time.time() - path.stat().st_mtime > OLD_SECONDS
        if is_old or (is_free and _was_written_here(named)):
            path.unlink()  # while it is locked: see `_create`
            return True
    return False


def _lock(file: BinaryIO) -> bool | None:
    """False where another process holds it, None where there are no locks."""
    if not HAS_LOCKS:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _was_written_here(named: re.Match[str]) -> bool:
    """By a process of this host, and if by an earlier version, which locked nothing, a dead one."""
    if named.re is _OURS:
        return named["host"] == _this_host()
    try:
        os.kill(int(named["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def _this_host() -> str:
    return hashlib.sha256(os.fsencode(socket.gethostname())).hexdigest()[:8]
