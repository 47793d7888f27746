"""A process that is started afresh, on the very code of this one, and what it says at its end."""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

SCRIPT = Path(__file__).with_name("same_code.py")
MOST_QUOTED = 300  # characters of a last line
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)


class ErrorOutput:
    """What a process writes to standard error: passed on here as it comes, its last line kept.

    A file and not a pipe, which would fill up while this process is busy, and break when it dies.
    """

    def __init__(self) -> None:
        self._file = _nameless_file()
        self._read_bytes = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._end = ""

    def fileno(self) -> int:
        """For the process that is to write."""
        return self._file.fileno()

    def pass_on(self) -> None:
        """Write what has come since the last call to this process's standard error."""
        while chunk := os.pread(self.fileno(), 1 << 16, self._read_bytes):
            self._read_bytes += len(chunk)
            text = self._decode(chunk)
            sys.stderr.write(text)
            sys.stderr.flush()
            self._end = (self._end + text)[-10 * MOST_QUOTED :]

    def close(self) -> str:
        """Pass on the rest; the last line that is not empty, or what of it can be quoted."""
        self.pass_on()
        self._file.close()
        lines = [line for line in self._end.splitlines() if line.strip()]
        return lines[-1].strip()[:MOST_QUOTED] if lines else ""


def _nameless_file() -> IO[bytes]:
    """To write and read; in memory where the system has such, as a disk may be full."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("standard error"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def start_fresh(
    module: str,
    *arguments: str,
    errors: ErrorOutput,
    stdout: int | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Run a module of ours in a new process, whose `sys.path` and packages are those of this one.

    Neither the folder it starts in nor an installed version comes first there, as under
    `python -m`. It is in a session of its own: Ctrl-C reaches only this process. Its standard
    input is a pipe, and `module` reads it from where the path ends.

    Args:
        env: beside this process's own environment.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", str(SCRIPT), "-m", module, *arguments],
        env={**os.environ, **(env or {})},
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=errors.fileno(),
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has died: whoever waits for it sees to that
        process.stdin.write(json.dumps(list(map(str, sys.path))).encode() + b"\n")
        process.stdin.flush()
    return process


def cause_of_death(code: int, last_line: str) -> str:
    """`exit code 1: ImportError: ...`; where the system killed it, the likely reason.

    Args:
        code: as of `Popen.poll`.
        last_line: of its standard error.
    """
    ending = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    if code in KILLED:
        return f"{ending}: is there enough memory?"
    return f"{ending}: {last_line}" if last_line else f"{ending}, without a word"
