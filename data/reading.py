"""Files from elsewhere, read within bounds: no device, no pipe, nothing without end."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn


@contextmanager
def open_regular(path: Path, most_bytes: int) -> Iterator[BinaryIO]:
    """A regular file, or a link to one, of at most so many bytes; a pipe is not waited for.

    Raises OSError, with `strerror` in words: missing, not readable, not a regular file, too large,
    or a name that no file can have.
    """
    try:
        _check(path.stat(), most_bytes)  # before it is opened, which can start a device
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, f"no file can have this name ({error})") from error
    with os.fdopen(descriptor, "rb") as file:
        _check(os.fstat(descriptor), most_bytes)  # what was opened, whatever the name means by now
        yield file


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of `open_regular`'s file. Raises what it raises."""
    with open_regular(path, most_bytes) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def parse_json(content: bytes) -> Any:
    """JSON in UTF-8 whose numbers are finite and whose integers fit into 64 bits, or ValueError."""
    try:
        return json.loads(
            content.decode(), parse_constant=_refuse, parse_float=_finite, parse_int=_of_64_bits
        )
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def _check(facts: os.stat_result, most_bytes: int) -> None:
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if facts.st_size > most_bytes:
        raise OSError(errno.EFBIG, f"it has {facts.st_size} bytes, more than {most_bytes}")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _of_64_bits(text: str) -> int:
    number = int(text) if len(text) <= 20 else 2**63
    return number if abs(number) < 2**63 else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no finite number, or too large")
