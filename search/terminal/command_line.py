"""How this command was called, and how to show its arguments without passwords."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from data.errors import shown
from search.store import (
    DEFAULT_STORAGE,
    NOT_SHOWN,
    STORAGE_VARIABLE,
    mask_password,
    without_password,
)

PASSWORD_HINT = f"the password from ~/.pgpass, $PGPASSWORD or ${STORAGE_VARIABLE}"
CONSOLE_SCRIPT = "cnn-search "  # how `sys.argv[0]` begins if this script runs, see search.cli
_MODULE = re.compile(r"\bpython -m (?:search|models|data)\.")
ARG_START, ARG_END = 45, 46  # fields of /proc/PID/stat after the command's name


def this_command() -> str:
    """As it is typed: `python -m search.study`, or `cnn-search study`."""
    if sys.argv[0].startswith(CONSOLE_SCRIPT):
        return sys.argv[0]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name.removesuffix('.__main__') if spec else Path(sys.argv[0]).name}"


def as_called(text: str) -> str:
    """The text, with our commands written the way this one was called."""
    is_script = sys.argv[0].startswith(CONSOLE_SCRIPT)
    return _MODULE.sub(CONSOLE_SCRIPT, text) if is_script else text


def for_shell(words: Iterable[str]) -> str:
    """Arguments as one line to paste into a shell; on Windows, into cmd.exe or PowerShell."""
    if sys.platform != "win32":
        return shlex.join(words)
    escaped = [subprocess.list2cmdline([word]) for word in words]  # only quotes and spaces
    return " ".join(
        word if re.fullmatch(r'[\w+=:./\\-]+|".*"', word) else f'"{word}"' for word in escaped
    )


def with_password(url: str) -> str:
    """The URL; if it is $SEARCH_STORAGE without the password, as we print it, with the password."""
    held = os.environ.get(STORAGE_VARIABLE)
    return held if held and url != held and url == without_password(held) else url


def same_command(arguments: Iterable[str]) -> str:
    """The command line to paste into a shell, with a hint in place of any password."""
    given = list(arguments)
    url = os.environ.get(STORAGE_VARIABLE)
    if url and not any(word.startswith("--storage") for word in given):
        given += ["--storage", url]  # the next shell may not have the variable
    told = []
    for word in given:
        held = _url_in(word)
        told.append(word.removesuffix(held) + without_password(held) if held else word)
    hint = "" if told == given else f"  ({PASSWORD_HINT})"
    return f"{this_command()} {for_shell(told)}".rstrip() + hint


def command(module: str, study: str | None, storage: str, *more: str) -> str:
    """A command to paste into a shell, for this study or (None) for the whole database.

    With the folders that this process was given; without a password.
    """
    words = [] if study is None else ["--study", study]
    if storage != DEFAULT_STORAGE or os.environ.get(STORAGE_VARIABLE):
        words += ["--storage", without_password(storage)]
    words += more
    words += _given("--runs-dir") if module != "leaderboard" else []
    words += _given("--data-dir") if module in ("study", "finalize") else []
    words += _given("--checkpoints") if module == "study" else []
    return f"{as_called(f'python -m search.{module}')} {shown(for_shell(words))}".rstrip()


def _given(name: str) -> list[str]:
    """An option of this process's command line and its value; nothing if it was not given."""
    words = [part for word in sys.argv for part in word.split("=", word.startswith(f"{name}="))]
    return words[words.index(name) :][:2] if name in words else []


def hide_passwords(text: str) -> str:
    """A text that may quote this process's arguments, with `***` for passwords in them."""
    for word in sys.argv[1:]:
        url = _url_in(word)
        masked = mask_password(url) if url else url  # the URL parser takes a while to load
        if masked != url:
            shown = "***" if masked == NOT_SHOWN else masked
            for quoted in (url, repr(url)[1:-1], " ".join(url.split())):
                text = text.replace(quoted, shown)
    return text


def wipe_passwords() -> None:
    """Hide passwords in this process's arguments from other users' `ps`, if Linux allows it.

    The memory that /proc/PID/cmdline shows is overwritten, in copies of this process too; Python
    has its own copy of the arguments.
    """
    if sys.platform != "linux" or all(hide_passwords(word) == word for word in sys.argv[1:]):
        return
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        start, end = int(fields[ARG_START]), int(fields[ARG_END])
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            words = memory.read(end - start).split(b"\0")
            shown = [os.fsencode(hide_passwords(os.fsdecode(word))) for word in words]
            memory.seek(start)  # each must stay as long as it was
            pairs = zip(words, shown, strict=True)
            memory.write(b"\0".join(new[: len(old)].ljust(len(old)) for old, new in pairs))


def _url_in(word: str) -> str:
    """The URL in an argument, also in `--storage=URL`; empty if there is none."""
    value = word.partition("=")[2] if word.startswith("-") else word
    return value if "://" in value or ("@" in value and "postgres" in value) else ""
