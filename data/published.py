"""Published data sets in torchvision's archives, verified at each load and fetched if missing.

An archive is never extracted to disk: no process sees a half-extracted file, and a read-only
directory suffices. One process at a time fetches, completely or not at all; no download hangs.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import pickle
import tarfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import numpy as np

from data.errors import DataError
from data.reading import read_regular, write_atomically

if TYPE_CHECKING:
    from data.arrays import Part

CERTIFICATES = (
    "if Python has no certificates, run its “Install Certificates.command” (macOS), or pip install "
    "certifi and set SSL_CERT_FILE to the path that python -m certifi prints"
)
STALL_SECONDS = 10.0  # for a host to answer, and for each read of a download


@dataclass(frozen=True, slots=True)
class _Archive:
    """A published .gz or .tar.gz, and where torchvision stores it."""

    path: Path
    md5: str
    urls: Sequence[str]

    def is_content(self, content: bytes) -> bool:
        return hashlib.md5(content, usedforsecurity=False).hexdigest() == self.md5


def load_idx(
    source: str, names: Sequence[str] | None, train: bool, data_dir: Path
) -> tuple[Any, Any, Sequence[str]]:
    """(images, labels, class names) of a data set in gzipped IDX files, such as MNIST.

    source: name of torchvision's class, which has the URLs, the MD5s and default class names.
    """
    files = [gzip.decompress(content) for content in read_idx(source, train, data_dir)]
    # The header: 0, 0, type (8: uint8), rank, sizes (big-endian).
    images, labels = (np.frombuffer(file, np.uint8, offset=4 + 4 * file[3]) for file in files)
    height, width = np.frombuffer(files[0], ">u4", count=2, offset=8)
    return images.reshape(-1, height, width), labels, names or _torchvision(source).classes


def read_idx(source: str, train: bool, data_dir: Path) -> list[bytes]:
    """The verified archives of one part of a data set in IDX files."""
    published, folder = _torchvision(source), data_dir / source / "raw"
    archives = [
        _Archive(folder / name, md5, [mirror + name for mirror in published.mirrors])
        for name, md5 in published.resources
    ]
    wanted, others = (archives[:2], archives[2:]) if train else (archives[2:], archives[:2])
    return _read(source, wanted, others, data_dir, "good copies there")


def load_cifar(
    source: str, kind: str, train: bool, data_dir: Path
) -> tuple[Any, Any, Sequence[str]] | Part:
    """(images, labels, class names) of CIFAR's pickled batches or, if they are missing, of its
    pictures; see `data.folders.cifar`. kind: "", "fine_", "coarse_"."""
    from data.folders import cifar

    if cifar.stand_in(source, data_dir):
        return cifar.load(source, kind, train, data_dir)
    published = _torchvision(source)
    archive = _Archive(data_dir / published.filename, published.tgz_md5, [published.url])
    folder = data_dir / source.lower()
    put = f"good copies there, or pictures into {folder}/train/<class>/ and test/<class>/"
    [content] = _read(source, [archive], [], data_dir, put)
    members = [name for name, _ in (published.train_list if train else published.test_list)]
    # Unpickling runs code, so only a file that matches torchvision's MD5 is unpickled.
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        *batches, meta = (
            pickle.load(tar.extractfile(f"{published.base_folder}/{name}"), encoding="latin1")  # type: ignore[arg-type]
            for name in [*members, published.meta["filename"]]
        )
    pixels_NCHW = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch[f"{kind}labels"] for batch in batches])
    return pixels_NCHW.transpose(0, 2, 3, 1), labels, meta[f"{kind}label_names"]


def load_digits(train: bool, _data_dir: Path) -> tuple[Any, Any, Sequence[str]]:
    """scikit-learn's 1 797 digits of 8x8 pixels, which come with this package.

    Levels 0 to 16 are scaled to 0 to 255; a fifth, drawn by class once and for all, is the test
    part. Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998
    (CC BY 4.0).
    """
    part = "train" if train else "test"
    with np.load(Path(__file__).with_name("digits.npz")) as file:
        return file[f"{part}_images"], file[f"{part}_labels"], "0123456789"


def _read(
    title: str, wanted: Sequence[_Archive], others: Sequence[_Archive], data_dir: Path, put: str
) -> list[bytes]:
    """The verified contents of `wanted`, fetched if missing or damaged.

    With them, any missing `others` are fetched, unopened, so that reading those later needs no
    network. Raises DataError if one can be neither read nor fetched; it says what to `put` where.
    """
    from filelock import FileLock

    contents = [content for archive in wanted if (content := _verified(archive))]
    if len(contents) == len(wanted):
        return contents
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / ".lock"):
            # Another process may have fetched some meanwhile.
            contents = [_verified(archive) or _fetch(archive) for archive in wanted]
            with contextlib.suppress(OSError):
                for archive in others:
                    if not archive.path.exists():
                        _fetch(archive)
        return contents
    except OSError as error:
        raise DataError(
            f"{title} cannot be read from {wanted[0].path.parent}: {error}; put {put}, name "
            "their folder (--data-dir DIR), or run again with a network connection"
        ) from error


def _torchvision(source: str) -> Any:
    from torchvision import datasets  # takes a second, only if files are read

    return getattr(datasets, source)


def _verified(archive: _Archive) -> bytes | None:
    """The archive's bytes; None if the file is missing or its MD5 differs."""
    try:
        content = read_regular(archive.path, 2**32)  # the largest archive is 170 MB
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(
            f"cannot read {archive.path}: {error.strerror}; make it readable, or give another "
            "--data-dir"
        ) from error
    return content if archive.is_content(content) else None


def _fetch(archive: _Archive) -> bytes:
    """Atomically stores a verified copy from the first URL that has one. Raises OSError."""
    reasons = []
    for url in archive.urls:
        why = "sent something else"
        try:
            content = _download(url, archive.path.name)
        except (OSError, HTTPException) as error:
            why = why_not_fetched(error)
            if isinstance(error, HTTPError):
                error.close()  # the error is the response
        else:
            if archive.is_content(content):
                write_atomically(archive.path, content)
                return content
        reasons.append(f"{urlparse(url).netloc}: {why}")
    raise OSError(
        f"{archive.path.name} is missing or damaged (wrong MD5) and could not be fetched "
        f"({' '.join('; '.join(reasons).split())})"
    )


def why_not_fetched(error: Exception) -> str:
    """The reason for a failed download; with the remedy, if Python has no certificates."""
    why = error.reason if type(error) is URLError else error
    return f"{why}; {CERTIFICATES}" if isinstance(why, SSLCertVerificationError) else str(why)


def _download(url: str, name: str) -> bytes:
    from rich.console import Console
    from rich.progress import wrap_file

    with urllib.request.urlopen(url, timeout=STALL_SECONDS) as response:
        size, shown = int(response.headers.get("Content-Length", 0)), Console(stderr=True)
        with wrap_file(response, size, description=name, console=shown) as watched:
            return b"".join(iter(lambda: watched.read(1 << 20), b""))
