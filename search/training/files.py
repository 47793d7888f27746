"""Checkpoints, written atomically. Imports torch only when it is used.

A checkpoint is `<name>.pt` with the SHA-256 of its payload in front; the one before it is kept
as `<name>.previous.pt`, so that a damaged file costs one epoch and not the training. They may be
in a store that only fsspec reaches, see `Remote`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import time
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from data.reading import TEMPORARY, host_digest, move, read_regular, write_atomically
from models.checks import first_line

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"  # of a finished network, in its folder
PREVIOUS = ".previous.pt"
MAGIC = b"cnn-search checkpoint 1\n"
HEAD_BYTES = len(MAGIC) + 32  # with the payload's digest
MOST_BYTES = 16 * 2**30  # the largest network, its gradients' moments, its average
OLD_SECONDS = 3600.0  # no write takes that long
_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint cannot be read (no permission or connection); to do without it loses epochs."""


class CheckpointUnwritableError(CheckpointError):
    """A checkpoint cannot be written (no room or permission); training on risks finished epochs."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A file or folder in an object store, with the part of `Path` that checkpoints need.

    It raises only OSErrors. Such a store replaces an object as a whole or not at all.
    """

    url: str

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.url

    def with_suffix(self, suffix: str) -> Remote:
        return Remote(self.url.removesuffix(".pt") + suffix)

    def _call(self, method: str, *arguments: object) -> Any:
        """Call a method of its `fsspec.AbstractFileSystem`; Remote arguments become paths there."""
        from fsspec.core import url_to_fs

        try:
            system, path = url_to_fs(self.url)
            given = [url_to_fs(it.url)[1] if isinstance(it, Remote) else it for it in arguments]
            return getattr(system, method)(path, *given)
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever its libraries raise
            raise OSError(None, first_line(error)) from error

    def read_bytes(self) -> bytes:
        return bytes(self._call("cat_file"))

    def write_bytes(self, content: bytes) -> None:
        self._call("pipe_file", content)

    def copy_to(self, other: Remote) -> None:
        self._call("cp_file", other)

    def unlink(self, *, missing_ok: Literal[True]) -> None:
        with suppress(FileNotFoundError):
            self._call("rm_file")


def delete_abandoned(folder: Path) -> None:
    """Delete temporary files below a folder if the processes that wrote them are gone.

    Files from another host or container are deleted after an hour: a write takes moments.
    """
    for path in folder.rglob(f"*{TEMPORARY}"):
        named = re.search(
            r"\.([0-9a-f]{8})-([0-9]{1,9})-[0-9a-f]{8}$", path.name.removesuffix(TEMPORARY)
        )
        is_gone = named and named[1] == host_digest() and not psutil.pid_exists(int(named[2]))
        with suppress(OSError):  # not ours to delete, or its writer has just renamed it
            if is_gone or time.time() - path.lstat().st_mtime > OLD_SECONDS:
                path.unlink()


def save_checkpoint(path: Path | Remote, state: dict[str, Any]) -> None:
    """Write the state; an existing checkpoint becomes the previous one.

    `state["identity"]` says what the state belongs to, see `latest_checkpoint`. Raises
    CheckpointUnwritableError; the previous checkpoint is then intact.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    content = MAGIC + hashlib.sha256(payload).digest() + payload
    # If there is none, this is the first, or another process that saves it was faster.
    try:
        if isinstance(path, Remote):
            with suppress(FileNotFoundError):
                path.copy_to(path.with_suffix(PREVIOUS))
            path.write_bytes(content)
        else:
            with suppress(FileNotFoundError):
                move(path, path.with_suffix(PREVIOUS))
            write_atomically(path, content)
    except OSError as error:
        problem = f"cannot write {path} ({error.strerror})"
        remedy = "nothing is lost: make room, then run the same command again"
        raise CheckpointUnwritableError(f"{problem}; {remedy}") from error


def latest_checkpoint(path: Path | Remote, *identities: dict[str, Any]) -> dict[str, Any] | None:
    """The newest state with such an identity: from the file, else the previous one, else None.

    Skips damaged files: truncated, changed since they were written, or holding more than data.
    Raises CheckpointError if one may be there but cannot be read.
    """
    # Earlier versions wrote an identity without `content`.
    older = [{name: it for name, it in one.items() if name != "content"} for one in identities]
    for one in (path, path.with_suffix(PREVIOUS)):
        try:
            content = read_regular(one, MOST_BYTES) if isinstance(one, Path) else one.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            problem = f"cannot read {one} ({error.strerror})"
            remedy = "nothing is lost: make it readable, or delete it to train its epochs again"
            raise CheckpointError(f"{problem}; {remedy}; then run the same command") from error
        with suppress(ValueError):
            head, payload = content[:HEAD_BYTES], content[HEAD_BYTES:]
            if head == MAGIC + hashlib.sha256(payload).digest():
                state = load_tensors(payload)
                if isinstance(state, dict) and state.get("identity") in (*identities, *older):
                    return state
    return None


def delete_checkpoint(path: Path | Remote) -> None:
    """Delete it and the previous one; a failure is only logged."""
    for one in (path, path.with_suffix(PREVIOUS)):
        try:
            one.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("cannot delete %s (%s), which is no longer needed", one, error.strerror)


def is_plain(tensor: Tensor, *, may_be_infinite: bool = False) -> bool:
    """Whether it is finite, and not sparse, quantised, complex or meta, as a file's can be.

    `may_be_infinite`: it may hold infinity, as the buffer of an attention mask does, but no NaN.
    """
    import torch

    odd = tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex()
    if odd or tensor.device.type != "cpu":
        return False
    return not tensor.isnan().any() if may_be_infinite else bool(tensor.isfinite().all())


def load_tensors(content: bytes) -> Any:
    """What torch.save or safetensors wrote, in main memory; no code in it is executed.

    Raises ValueError, in one line, if it is no such file or holds more than data.
    """
    import torch
    from safetensors.torch import load

    try:
        if content[8:9] == b"{":  # a safetensors header, after its length
            return load(content)
        if content.startswith(b"PK"):  # as torch tells its formats apart
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if any(entry.compress_type for entry in archive.infolist()):
                    raise ValueError("it is compressed, which torch.save never does")
        with warnings.catch_warnings(action="ignore"):  # about deprecated formats
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the libraries' own, pickle's or zipfile's, whatever it holds
        reason = first_line(error) or type(error).__name__
        if "weights_only" in str(error):  # torch's advice is to allow code
            reason = "it holds more than tensors, or none; use torch.save(model.state_dict(), FILE)"
        raise ValueError(reason) from error
