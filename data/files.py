"""Published files, read with their MD5 checked and fetched where they are missing or damaged.

A file is taken from its extracted form or straight out of its archive, whichever is whole.
Nothing is ever extracted to disk, so no process can meet a half-extracted file, a truncated
one beside a good archive does no harm, and a read-only directory is as good as another.
"""

import contextlib
import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import DataError
from data.fetch import Archive, FetchError, answering, fetch, one_at_a_time
from data.reading import read_regular

MOST_BYTES = 2**32  # the largest archive here has 170 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of an archive; `path` is below the data directory, as torchvision has it."""

    path: str
    md5: str
    archive: Archive


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
            answering(_archives([file for file in files if file.path not in found])[0])
            with one_at_a_time(data_dir):
                found = _contents(files, data_dir)  # another process may have fetched them
                for archive in _archives([file for file in files if file.path not in found]):
                    fetch(archive, data_dir)
                found = _contents(files, data_dir)
                with contextlib.suppress(FetchError):
                    for archive in _archives(_missing(companions, data_dir)):
                        fetch(archive, data_dir)
        except FetchError as error:
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
        content = read_regular(path, MOST_BYTES)
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
    wanted = [
        Path(archive.path) for archive in _archives([*lacking, *_missing(companions, data_dir)])
    ]
    return DataError(
        f"{title} is not in {data_dir} and was not fetched ({reason}): put "
        f"{', '.join(path.name for path in wanted)} into {data_dir / wanted[0].parent}"
    )
