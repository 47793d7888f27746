"""Files from elsewhere, read within bounds: no device, no pipe, nothing without end."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def open_regular(path: Path, most_bytes: int) -> Iterator[BinaryIO]:
    """A regular file, or a link to one, of at most so many bytes; a pipe is not waited for.

    Raises OSError, with `strerror` in words: missing, not readable, not a regular file, too large,
    or a name that no file can have.
    """
    try:
        facts = path.stat()  # before it is opened, which can start a device
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from error
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if facts.st_size > most_bytes:
        raise OSError(errno.EFBIG, f"it has {facts.st_size} bytes, more than {most_bytes}")
    with path.open("rb") as file:
        yield file


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of `open_regular`'s file. Raises what it raises."""
    with open_regular(path, most_bytes) as file:
        return file.read()


def parse_json(content: bytes) -> Any:
    """JSON in UTF-8, or ValueError."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
