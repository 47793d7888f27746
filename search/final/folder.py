"""What finalize writes, and where: `runs/<study>/final-N` for the N-th test evaluation.

`runs/<study>/final` points to the first one, which is the one to trust: it is a link or, if the
file system has no links, a copy. A folder that an earlier version wrote there is kept.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from data.folders.composition import measure
from data.reading import move, write_atomically
from search.analysis.final_result import FinalResult, metrics
from search.figures.files import write_pictures
from search.figures.final import final_pictures
from search.final.choose import Chosen
from search.final.export import Exported, export_onnx, writing_into
from search.pages.final_page import final_page, final_text
from search.store.folders import FINAL
from search.store.views import StudyView
from search.terminal.progress import to_html
from search.training.bundle import Bundle, write_bundle
from search.training.task import Task

METRICS = "metrics.json"  # last but for the ONNX model: a folder that has it is complete


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Final:
    """A finalised study."""

    folder: Path  # with model.safetensors, config.json, metrics.json, report.html and pictures
    metrics: Mapping[str, Any]  # as in metrics.json; losses in nats, accuracy and error in [0, 1]
    result: FinalResult  # what the page and the pictures are made from
    bundle: Bundle  # the first seed's network with everything needed to use it
    exported: Exported | None = None  # how far the ONNX model is from torch's, if one was requested

    def __repr__(self) -> str:
        return f"Final({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """What the command prints, for a notebook."""
        return to_html(Text(f"{final_text(self.result)}\n\nWritten to {self.folder}"))


def check_writable(folder: Path) -> None:
    """Create `folder`. Raises BundleError if files cannot be written into it."""
    with writing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room")


def make_bundle(
    view: StudyView, chosen: Chosen, task: Task, seed: int, weights: Mapping[str, torch.Tensor]
) -> Bundle:
    """A seed's network with everything needed to use it without the data set."""
    return Bundle(
        study=view.name,
        trial=chosen.trial.number,
        seed=seed,
        epochs=chosen.epochs,
        dataset=view.dataset.name,
        title=view.dataset.title,
        class_names=task.info.class_names,
        image_shape=task.image_shape,
        mean_C=task.mean_C.cpu(),
        std_C=task.std_C.cpu(),
        temperature=chosen.temperature,
        preparation=task.info.preparation,
        composition=measure(task.training.images_NCHW.cpu().numpy()),
        architecture=chosen.config.architecture,
        recipe=chosen.config.recipe.to_dict(),
        weights=weights,
    )


def write_all(
    folder: Path, result: FinalResult, bundle: Bundle, onnx_NCHW: torch.Tensor | None
) -> Final:
    """Write an evaluation's files, each atomically, to its own folder below the study's.

    `onnx_NCHW`: uint8 images on which `model.onnx` is compared; None writes no such file. Raises
    BundleError if a file cannot be written, or `export_onnx` raises it.
    """
    target, exported = folder / f"{FINAL}-{result.evaluation}", None
    text = metrics_text(result)
    with writing_into(target):
        write_bundle(bundle, target)
        write_pictures(final_pictures(result), target)
        write_atomically(target / "report.html", final_page(result).encode())
        write_atomically(target / METRICS, text.encode())
        try:
            if onnx_NCHW is not None:
                exported = export_onnx(bundle, target, onnx_NCHW)
        finally:
            lead_to_first(folder)  # last, for it may be a copy
    return Final(
        folder=target,
        metrics=json.loads(text),  # lists, as in the file
        result=result,
        bundle=bundle,
        exported=exported,
    )


def metrics_text(result: FinalResult) -> str:
    """What METRICS holds: indented, with a line for each row of the confusion matrix."""
    found = metrics(result)
    rows = ",\n    ".join(map(json.dumps, found.pop("confusion")))
    text = json.dumps({"confusion": None, **found}, indent=2, allow_nan=False) + "\n"
    return text.replace('\n  "confusion": null', f'\n  "confusion": [\n    {rows}\n  ]', 1)


def lead_to_first(folder: Path) -> None:
    """Let `final` point to the first complete evaluation. Raises OSError."""
    whole = [path for path in folder.glob(f"{FINAL}-*") if (path / METRICS).is_file()]
    first = min(whole, key=lambda path: (len(path.name), path.name))
    link = folder / FINAL
    if link.exists() and (link.samefile(first) or not link.is_symlink()):
        return
    temporary = folder / f".{FINAL}.{os.getpid()}"
    if temporary.is_symlink():  # of a killed process with the same number, as in containers
        temporary.unlink()
    try:
        temporary.symlink_to(first.name, target_is_directory=True)
    except (OSError, NotImplementedError):
        shutil.copytree(first, temporary, dirs_exist_ok=True)
    link.unlink(missing_ok=True)  # Windows cannot replace a link to a folder
    move(temporary, link)
