"""Archives fetched from where they are published, whole or not at all, and never hanging."""

import contextlib
import logging
import shutil
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

PROBE_SECONDS = 3.0  # for a host to answer at all
STALL_SECONDS = 20.0  # for the next piece of a download

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Archive:
    """A .gz or .tar.gz as published; `path` is below the data directory, as torchvision has it."""

    path: str
    md5: str
    urls: tuple[str, ...]


class FetchError(Exception):
    """Why an archive could not be fetched."""


@contextlib.contextmanager
def one_at_a_time(data_dir: Path) -> Iterator[None]:
    """Lets one process fetch into `data_dir` while others wait for it.

    Where the system has no such lock, two fetch the same: each verifies its own before use.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = (data_dir / ".lock").open("w")
    except OSError as error:
        raise FetchError(f"cannot write to {data_dir}: {error.strerror}") from error
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


def answering(archive: Archive) -> str:
    """The first of the archive's addresses that answers; PROBE_SECONDS are given to each."""
    reasons = []
    for url in archive.urls:
        try:
            _probe(url)
            return url
        except FetchError as error:
            reasons.append(f"{urlparse(url).netloc}: {error}")
    raise FetchError("; ".join(reasons))


def fetch(archive: Archive, data_dir: Path) -> None:
    """Puts a verified copy of `archive` in its place, whole or not at all."""
    from torchvision.datasets.utils import download_url  # a second to import, and rarely needed

    url = answering(archive)
    target = data_dir / archive.path
    partial = target.parent / ".partial"
    try:
        with _socket_timeout(STALL_SECONDS):
            download_url(url, partial, target.name, archive.md5)
        (partial / target.name).replace(target)
    except (OSError, HTTPException) as error:
        raise FetchError(f"{urlparse(url).netloc}: {_one_line(error)}") from error
    except RuntimeError as error:  # torchvision's word for a wrong MD5
        raise FetchError(
            f"{urlparse(url).netloc}: sent something else than the published {target.name}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it is the response
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if not outcome:
        raise FetchError(f"no answer within {PROBE_SECONDS:g} s")
    if outcome[0] is not None:
        raise FetchError(_one_line(outcome[0])) from outcome[0]


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
