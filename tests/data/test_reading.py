"""Paths that are no regular files, or endless, are refused at once with a reason."""

import errno
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from data.reading import parse_json, read_regular, write_atomically


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: (path.touch(), os.truncate(path, 2**40)), "1099511627776 bytes, more than"),
        (lambda path: path.symlink_to("none"), "No such file"),
    ],
    ids=["zero", "loop", "pipe", "folder", "sparse", "none"],
)
def test_irregular_or_too_large_files_are_refused(make: Any, says: str, tmp_path: Path) -> None:
    make(tmp_path / "it")
    began = time.process_time()
    with pytest.raises(OSError, match=says):
        read_regular(tmp_path / "it", 1000)
    assert time.process_time() - began < 2


def test_a_file_or_a_link_to_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", 3) == read_regular(tmp_path / "link", 3) == b"abc"
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(OSError, match="name"):
            read_regular(Path(name), 1)


def test_malformed_json_is_refused() -> None:
    for content, says in ((b'{"a":' * 100_000, "nested too deeply"), (b"{", "Expecting")):
        with pytest.raises(ValueError, match=says):
            parse_json(content)


def test_a_folder_that_cannot_be_synced_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on shared folders of VirtualBox and some network drives."""
    real = os.fsync

    def files_only(opened: int) -> None:
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(opened)

    monkeypatch.setattr(os, "fsync", files_only)
    write_atomically(tmp_path / "file", b"abc")
    assert [(it.name, it.read_bytes()) for it in tmp_path.iterdir()] == [("file", b"abc")]
