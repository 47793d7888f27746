"""Files that are none, or without end: refused at once, in words."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from data.reading import open_regular, parse_json, read_regular


def test_a_file_or_a_link_to_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "empty").write_bytes(b"")
    assert read_regular(tmp_path / "file", 3) == read_regular(tmp_path / "link", 3) == b"abc"
    assert read_regular(tmp_path / "empty", 0) == b""
    with open_regular(tmp_path / "file", 3) as file:
        assert file.read(2) == b"ab"


def link(target: str) -> Any:
    return lambda path: path.symlink_to(target)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (link("/dev/zero"), "no regular file"),
        (link("/dev/random"), "no regular file"),
        (link("/dev/tty"), "no regular file"),
        (link("loop"), "symbolic links"),
        (os.mkfifo, "no regular file"),
        (listening, "no regular file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (sparse, "1099511627776 bytes, more than 1000"),
        (lambda path: path.write_bytes(b"a" * 1001), "1001 bytes"),
        (link("none"), "No such file"),
    ],
    ids=["zero", "random", "tty", "loop", "pipe", "socket", "folder", "sparse", "large", "none"],
)
def test_what_is_no_file_of_such_a_size(
    make: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("loop"))
    before, began = open_files(), time.monotonic()
    with pytest.raises(OSError, match=says) as caught:
        read_regular(Path("loop"), 1000)
    assert says in str(caught.value.strerror)
    assert time.monotonic() - began < 2
    assert open_files() == before


def test_a_name_that_no_file_has() -> None:
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(OSError, match="name"):
            read_regular(Path(name), 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[1e999]", "1e999 is no finite number"),
        (b"[NaN]", "NaN is no finite number"),
        (b"-Infinity", "-Infinity is no finite number"),
        (b"9" * 5000, "9999 is no finite number, or too large"),
        (b"9223372036854775808", "too large"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"\xff", "utf-8"),
        (b"{", "Expecting"),
        (b"", "Expecting"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_is_no_json_of_ours(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parse_json(content)
    assert len(str(caught.value)) < 200


def test_json_of_ours() -> None:
    assert parse_json(b'{"a": [1, -1.5e3, null, "\\u00e4"]}') == {"a": [1, -1500.0, None, "ä"]}
    assert parse_json(b"9223372036854775807") == 2**63 - 1
