"""Bounded reads and atomic writes of files.

Files from elsewhere may be devices, pipes or endless.
"""

import errno
import hashlib
import json
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

STUDY_MARK = "study.json"  # in a study's folder below runs/: says whose it is
TEMPORARY = ".partial.tmp"
HELD = (5, 32)  # Windows' errors for a file that another process has open
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds


@contextmanager
def open_regular(path: Path, most_bytes: int) -> Iterator[BinaryIO]:
    """A regular file, or a link to one, of at most `most_bytes`; does not wait for pipes.

    Raises OSError with a readable `strerror`, also for a name that no file can have.
    """
    try:
        facts = path.stat()  # before opening, which can start a device
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from error
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if facts.st_size > most_bytes:
        raise OSError(errno.EFBIG, f"it has {facts.st_size} bytes, more than {most_bytes}")
    with path.open("rb") as file:
        yield file


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of the file that `open_regular` opens; raises the same errors."""
    with open_regular(path, most_bytes) as file:
        return file.read()


def parse_json(content: bytes) -> Any:
    """Parse JSON in UTF-8. Raises ValueError, also for a lone surrogate, which is not text."""
    try:
        found = json.loads(content)
        json.dumps(found, ensure_ascii=False).encode()
        return found
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def this_host() -> tuple[str, str]:
    """Its name, and an id that tells hosts and containers of that name apart; `?` if unknown."""
    host = socket.gethostname().replace(":", "_")[:64]
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return host, f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return host, "?"


def host_digest() -> str:
    """Digest of `this_host`, 8 hexadecimal digits."""
    return hashlib.sha256(os.fsencode(":".join(this_host()))).hexdigest()[:8]


def move(source: Path, target: Path) -> None:
    """Rename a file or folder; a file at `target` is replaced. Raises OSError.

    On Windows, a virus scanner or search indexer holds new files for moments, in which they cannot
    be renamed: there it tries for two seconds.
    """
    for pause in (*PAUSES, None):
        try:
            source.replace(target)
            return
        except OSError as error:
            if pause is None or getattr(error, "winerror", None) not in HELD:
                raise
        time.sleep(pause)


def write_atomically(path: Path, payload: bytes) -> None:
    """Replace `path` so that a reader, or a crash at any moment, sees the old or the new file.

    An OSError names `path` as its file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{host_digest()}-{os.getpid()}-{secrets.token_hex(4)}"  # to spot leftovers of a kill
    temporary = path.with_name(f"{path.name}.{writer}{TEMPORARY}")
    try:
        with temporary.open("xb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    except OSError as error:
        error.filename = str(path)  # a full disk names none, others the temporary one
        raise
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(OSError):  # Windows cannot open folders, and some network drives cannot sync them
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # makes the rename durable
        finally:
            os.close(folder)
