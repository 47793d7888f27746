"""Which pictures of a folder without test images are held out for the test.

As long as the folder stays the same, each draw gives the same ones. Its first study makes them
final: it stores a record in the data directory. That names each picture and the SHA-256 of its
file, which identifies the picture when it, its class or the whole folder is renamed, moved or
copied, so that a test picture is never trained on. No picture is decoded for this.
"""

import contextlib
import hashlib
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from data.errors import DataError
from data.reading import parse_json, read_regular, write_atomically

Record = Mapping[str, str | None]  # digest by file; None: from an earlier version
MAX_BYTES = 2**28  # of a record: two million pictures
RECORDS = "folders"  # below the data directory
DIGEST_DIGITS = 32  # hexadecimal
ENOUGH = 0.5  # share of a record's pictures that a folder must have to be the same one, moved


def class_of(file: str) -> str:
    """The class of ".../<class>/<file>". Two Unicode spellings of one name are one class."""
    return unicodedata.normalize("NFC", file.split("/")[-2])


def file_digest(path: Path) -> str:
    """The SHA-256 of its bytes, shortened. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_DIGITS]


def held_out(
    root: Path,
    files: list[str],
    data_dir: Path,
    draw: Callable[[list[str]], Iterable[str]],
    *,
    copies: bool,
) -> dict[str, str]:
    """The test images among `files` below `root`, with the digests of their files.

    From the folder's record, else from that of the same folder at another place, which is stored as
    its own, else from `draw`, and final only after `record_test`. copies: test images are drawn
    among different pictures, and all copies of them are test images, too; False for studies from
    before. Raises DataError if none is left or the record cannot be stored, OSError if a picture
    cannot be read.
    """
    path = record_path(root, data_dir)
    digests = {file: file_digest(root / file) for file in files}
    record, moved = recorded_test(root, data_dir), None
    if record is None:
        record = moved = _of_moved(digests, path.parent)
    if record is None:
        first = {it: file for file, it in reversed(digests.items())}
        different = [file for file, it in digests.items() if first[it] == file]
        record = {file: digests[file] for file in draw(different if copies else files)}
    # A test image is identified by its name, whatever picture is there now, and by its content.
    if copies:
        contents = {*record.values(), *(digests[file] for file in record if file in digests)}
    else:
        contents = {it for file, it in record.items() if digests.get(file) != it}
    found = {file: it for file, it in digests.items() if file in record or it in contents}
    if not found:
        raise DataError(
            f"none of the test images that {path} names is left in {root}; put them back, "
            "or delete that file to have new ones drawn"
        )
    if moved is not None:
        _store(path, root, {**moved, **found})
    return found


def count_copies(root: Path, files: Iterable[str], test: Mapping[str, str]) -> int:
    """How many of `files` are copies of test images; only files of their sizes are read."""
    sizes, digests = {(root / file).stat().st_size for file in test}, {*test.values()}
    alike = (root / file for file in files if (root / file).stat().st_size in sizes)
    return sum(file_digest(path) in digests for path in alike)


def recorded_test(root: Path, data_dir: Path) -> Record | None:
    """The folder's record; None if there is none. Raises DataError if it is damaged."""
    path = record_path(root, data_dir)
    return _read(path) if path.exists() else None


def record_test(root: Path, drawn: Record, data_dir: Path) -> None:
    """Make these test images final, unless a record already does. Raises DataError if it cannot."""
    path = record_path(root, data_dir)
    if not path.exists():
        _store(path, root, drawn)


def keep(root: Path, record: Mapping[str, str], data_dir: Path) -> None:
    """Make `held_out` use a record from elsewhere, if there is none and the pictures are there.

    Without write permission, it draws again.
    """
    path = record_path(root, data_dir)
    if record and not path.exists():
        name = hashlib.sha256(json.dumps(sorted(record.items())).encode()).hexdigest()[:16]
        with contextlib.suppress(DataError):
            _store(path.with_name(f"{name}.json"), root, record)


def record_path(root: Path, data_dir: Path) -> Path:
    return data_dir / RECORDS / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"


def _of_moved(digests: Mapping[str, str], folder: Path) -> Record | None:
    """The record most of whose pictures are there under other names."""
    best, most, there = None, ENOUGH, set(digests.values())
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(DataError):
            record = _read(path)
            here = sum(digest in there for digest in record.values()) / max(len(record), 1)
            if here >= most:
                best, most = record, here
    return best


def _store(path: Path, root: Path, record: Record) -> None:
    content = {"folder": str(root), "test": sorted(record), "digests": dict(record)}
    try:
        write_atomically(path, json.dumps(content, indent=1).encode())
    except OSError as error:
        raise DataError(
            f"cannot store the choice of test images of {root} in {path.parent} "
            f"({error.strerror}); make {root / 'test'} yourself or give another --data-dir"
        ) from error


def _read(path: Path) -> Record:
    try:
        stored = parse_json(read_regular(path, MAX_BYTES))
        digests = stored.get("digests", {})  # of an earlier version: none
        if not isinstance(stored["test"], list):
            raise TypeError
        record = {file: digests.get(file) for file in stored["test"]}
        if not all(isinstance(it, str | None) for it in (*record, *record.values())):
            raise TypeError
    except OSError as error:
        raise DataError(
            f"cannot read {path} ({error.strerror}), which names the test images of a folder; "
            "make it readable, or give another --data-dir, where new ones are drawn"
        ) from error
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}, which names the test images of a folder, is damaged; restore it, "
            "or delete it to have new ones drawn"
        ) from error
    return record
