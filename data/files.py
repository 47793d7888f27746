"""Published files: read with their MD5 checked, fetched where they are missing or damaged.

A file is taken from its extracted form or straight out of its archive, whichever is whole.
Nothing is ever extracted to disk, so no process can meet a half-extracted file, a truncated
one beside a good archive does no harm, and a read-only directory is as good as another.
"""

import contextlib
import gzip
import hashlib
import io
import logging
import os
import shutil
import socket
import sys
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

from torchvision.datasets.utils import download_url

from data.examples import DataError

PROBE_SECONDS = 3.0  # for a host to answer at all
STALL_SECONDS = 20.0  # for the next piece of a download

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A .gz or .tar.gz as published; `path` is below the data directory, as torchvision has it."""

    path: str
    md5: str
    urls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of an archive; `path` is below the data directory, as torchvision has it."""

    path: str
    md5: str
    archive: Archive


class _FetchError(Exception):
    """Why an archive could not be fetched."""


def read(
    title: str, files: Sequence[File], data_dir: Path, *, companions: Sequence[File] = ()
) -> list[bytes]:
    """The verified contents of `files`, which belong to the data set called `title`.

    Where one is missing or damaged its archive is fetched, and with it those of `companions` that
    are missing: a later reader of them then needs no network. Companions are not opened. Raises
    DataError where a file can be had neither way.
    """
    found = _contents(files, data_dir)
    if len(found) < len(files):
        try:
            with _one_at_a_time(data_dir):
                found = _contents(files, data_dir)  # another process may have fetched them
                for archive in _archives([file for file in files if file.path not in found]):
                    _fetch(archive, data_dir)
                found = _contents(files, data_dir)
                with contextlib.suppress(_FetchError):
                    for archive in _archives(_missing(companions, data_dir)):
                        _fetch(archive, data_dir)
        except _FetchError as error:
            lacking = [file for file in files if file.path not in found]
            raise _complaint(title, lacking, companions, data_dir, str(error)) from error
    return [found[file.path] for file in files]


def _contents(files: Sequence[File], data_dir: Path) -> dict[str, bytes]:
    """By path, the contents of those files that are whole, extracted or in their archive."""
    found = {}
    for file in files:
        if (content := _verified(data_dir / file.path, file.md5)) is not None:
            found[file.path] = content
    packed = [file for file in files if file.path not in found]
    for archive in _archives(packed):
        if (content := _verified(data_dir / archive.path, archive.md5)) is not None:
            members = [file.path for file in packed if file.archive == archive]
            found.update(_unpacked(content, archive, members))
    return found


def _verified(path: Path, md5: str) -> bytes | None:
    """The bytes at `path`; None where there is no file or its MD5 is another."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; make it a readable file") from error
    return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5 else None


def _unpacked(content: bytes, archive: Archive, members: Sequence[str]) -> dict[str, bytes]:
    """The members of a verified archive, by path."""
    plain = gzip.decompress(content)
    if not archive.path.endswith(".tar.gz"):
        return dict.fromkeys(members, plain)
    found = {}
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        for member in members:
            stream = tar.extractfile(member)
            assert stream is not None, f"{archive.path} holds no file {member}"
            found[member] = stream.read()
    return found


def _archives(files: Sequence[File]) -> list[Archive]:
    return list(dict.fromkeys(file.archive for file in files))


def _missing(files: Sequence[File], data_dir: Path) -> list[File]:
    return [
        file
        for file in files
        if not (data_dir / file.path).exists() and not (data_dir / file.archive.path).exists()
    ]


@contextlib.contextmanager
def _one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Lets one process fetch into `data_dir` while others wait for it.

    Where the system has no such lock, two fetch the same: each verifies its own before use.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = (data_dir / ".lock").open("w")
    except OSError as error:
        raise _FetchError(f"cannot write to {data_dir}: {error.strerror}") from error
    with handle:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.warning("waiting for another process that fetches into %s", data_dir)
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                logger.info("%s is on a file system without locks", data_dir)
        yield


def _fetch(archive: Archive, data_dir: Path) -> None:
    """Puts a verified copy of `archive` in its place, whole or not at all."""
    target = data_dir / archive.path
    partial = target.parent / ".partial"
    reasons = []
    for url in archive.urls:
        try:
            _probe(url)
            with _socket_timeout(STALL_SECONDS):
                download_url(url, partial, target.name, archive.md5)
            (partial / target.name).replace(target)
            return
        except (_FetchError, OSError, HTTPException) as error:
            reasons.append(f"{urlparse(url).netloc}: {_one_line(error)}")
        except RuntimeError:  # torchvision's word for a wrong MD5
            reasons.append(f"{urlparse(url).netloc}: sent something else than the published file")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    raise _FetchError("; ".join(reasons))


def _probe(url: str) -> None:
    """Raises within PROBE_SECONDS unless `url` answers.

    A thread, since no timeout bounds the look-up of a name; an urllib request, since it takes
    the way that the download takes, proxies included.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
            outcome.append(None)
        except (OSError, HTTPException) as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if not outcome:
        raise _FetchError(f"no answer within {PROBE_SECONDS:g} s")
    if outcome[0] is not None:
        raise _FetchError(_one_line(outcome[0])) from outcome[0]


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Bounds each wait of sockets made within, as torchvision's downloads set no bound."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        error = error.reason
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def _complaint(
    title: str, lacking: Sequence[File], companions: Sequence[File], data_dir: Path, reason: str
) -> DataError:
    damaged = [
        str(data_dir / path)
        for path in dict.fromkeys(p for file in lacking for p in (file.path, file.archive.path))
        if (data_dir / path).is_file()
    ]
    if damaged:
        return DataError(
            f"{title}: damaged, by its MD5: {', '.join(damaged)}; not fetched again ({reason}): "
            "delete it and run again with a network, or put a good copy in its place"
        )
    wanted = [Path(archive.path) for archive in _archives([*lacking, *_missing(companions, data_dir)])]
    return DataError(
        f"{title} is not in {data_dir} and was not fetched ({reason}): put "
        f"{', '.join(path.name for path in wanted)} into {data_dir / wanted[0].parent}"
    )
