"""What finalize writes, and where: `runs/<study>/final-N` for the N-th test evaluation.

`runs/<study>/final` leads to the first one, which is the one to trust: it is a link or, where the
file system has none, a copy. What an earlier version wrote there stays.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.analysis.final_result import FinalResult
from search.figures.final import save_pictures
from search.pages.final_page import final_page
from search.training.bundle import FINAL, Bundle, write_bundle
from search.training.epoch import BundleError
from search.training.files import write_atomically

METRICS = "metrics.json"  # written last: a folder that has it is whole
ONNX = "model.onnx"


def final_folder(folder: Path, number: int) -> Path:
    return folder / f"{FINAL}-{number}"


def check_writable(folder: Path) -> None:
    """Whether files can be written below `folder`, which is made. Raises BundleError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room")
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(folder: Path, error: OSError) -> BundleError:
    return BundleError(
        f"cannot write {folder} ({error.strerror}); free some space or fix its permissions, then "
        "run the same command again: nothing is evaluated twice"
    )


def write_all(
    folder: Path, result: FinalResult, bundle: Bundle, metrics: Mapping[str, Any]
) -> None:
    """Each file whole or not at all; `metrics.json` last."""
    (folder / ONNX).unlink(missing_ok=True)  # an earlier network's
    write_bundle(bundle, folder)
    save_pictures(result, folder)
    write_atomically(folder / "report.html", final_page(result).encode())
    text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
    write_atomically(folder / METRICS, text.encode())


def lead_to_first(folder: Path) -> None:
    """Let `final` lead to the first evaluation that is whole. Raises OSError."""
    whole = [path for path in folder.glob(f"{FINAL}-*") if (path / METRICS).is_file()]
    first = min(whole, key=lambda path: (len(path.name), path.name))
    link = folder / FINAL
    if link.exists() and not link.is_symlink():
        return
    temporary = folder / f".{FINAL}.{os.getpid()}"
    try:
        temporary.symlink_to(first.name, target_is_directory=True)
    except (OSError, NotImplementedError):
        shutil.copytree(first, temporary, dirs_exist_ok=True)
    temporary.replace(link)
