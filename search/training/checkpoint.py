"""Checkpoints on disk: written whole or not at all, and checked when read.

A checkpoint is `<name>.pt` with the SHA-256 of its payload in front; the one before it is kept
as `<name>.previous.pt`, so that a damaged file costs one epoch and not the training.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from data.reading import open_regular
from search.training.epoch import CheckpointError
from search.training.temporary import write_atomically
from search.training.torch_files import load_tensors

MAGIC = b"cnn-search checkpoint 1\n"
DIGEST_BYTES = 32
MOST_BYTES = 16 * 2**30  # a network of the largest size, its gradients' moments, its average


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state, keeping the file that was there as the previous one.

    Raises:
        OSError: disk full or not writable; the old checkpoint is whole then.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    content = MAGIC + hashlib.sha256(payload).digest() + payload
    if path.exists():
        _keep_as_previous(path)
    write_atomically(path, content)


def _keep_as_previous(path: Path) -> None:
    """Give the file a second name. `path` itself is there, and whole, at every moment."""
    previous = _previous(path)
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except (FileExistsError, FileNotFoundError):
        pass  # two that both take the trial for theirs: the other one was faster
    except OSError:  # a file system without hard links
        shutil.copyfile(path, previous)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state in one file.

    Raises:
        CheckpointError: missing, cut short, changed since it was written, or more than data: what
            would have to be executed is not.
    """
    try:
        with open_regular(path, MOST_BYTES) as file:
            head = file.read(len(MAGIC) + DIGEST_BYTES)
            payload = file.read() if head.startswith(MAGIC) else b""
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    if head != MAGIC + hashlib.sha256(payload).digest():
        raise CheckpointError(f"{path}: damaged (its SHA-256 does not match)")
    # Random states belong in main memory whatever the device; optimisers move theirs on load.
    try:
        state = load_tensors(payload)
    except ValueError as error:
        raise CheckpointError(f"{path}: not the state of a training") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not the state of a training")
    return state


def latest_checkpoint(path: Path) -> dict[str, Any] | None:
    """The newest undamaged state: the file, else the one before it, else None."""
    for candidate in (path, _previous(path)):
        try:
            return load_checkpoint(candidate)
        except CheckpointError:
            continue
    return None


def is_made_for(identity: dict[str, Any], saved: object) -> bool:
    """Whether a checkpoint's identity is this one; that of an earlier version names no content."""
    older = {key: value for key, value in identity.items() if key != "content"}
    return saved in (identity, older)


def delete_checkpoint(path: Path) -> None:
    for candidate in (path, _previous(path)):
        candidate.unlink(missing_ok=True)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")
