"""What torch.save wrote, read as data alone, whoever wrote it."""

from __future__ import annotations

import io
import warnings
import zipfile
from typing import Any

import torch


def load_tensors(content: bytes) -> Any:
    """The object in it, with its tensors in main memory; nothing of it is executed.

    Raises:
        ValueError: it is not what torch.save writes, or more than data; one line.
    """
    try:
        if content.startswith(b"PK"):  # as torch tells its formats apart
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if any(entry.compress_type for entry in archive.infolist()):
                    raise ValueError("it is compressed, which torch.save never does")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that were given up
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own, pickle's and zipfile's, for whatever it may hold
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise ValueError(reason) from error
