"""The network as an ONNX file: bytes of an image in, probabilities out, no preprocessing needed.

Input `images`: uint8 (N, C, H, W), 0 to 255, any N from 1 up. Outputs `logits` and `probabilities`:
float32 (N, K); the probabilities are the softmax of the logits divided by the bundle's temperature.
The normalisation is part of the graph; the class names are in its metadata.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from data.reading import write_atomically
from models.checks import first_line
from search.training.bundle import Bundle
from search.training.epoch import BundleError

ONNX = "model.onnx"
TOLERANCE = 1e-3  # of logits: float32 rounding in another summation order stays far below
CHECKED = 64  # images


class Exported(NamedTuple):
    """difference: the largest between a logit and torch's, over that many images."""

    difference: float
    images: int

    def __str__(self) -> str:
        return (
            f"{ONNX}; on {self.images} images its logits differ from PyTorch's by at most "
            f"{self.difference:.1e}"
        )


def require_onnx() -> None:
    """Raises BundleError if packages that the export needs are missing."""
    needed = ("onnx", "onnxruntime", "onnxscript")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise BundleError(
            f"an ONNX file needs {', '.join(missing)}; pip install 'cnn-search[onnx]'"
        )


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Raises BundleError if the block cannot write a finished network's file there."""
    try:
        yield
    except OSError as error:
        raise BundleError(
            f"cannot write {folder} ({error.strerror}); free some space or fix its permissions, "
            "then run the same command again: nothing is evaluated twice"
        ) from error


class _Deployed(nn.Module):
    """From image bytes to (logits, probabilities)."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.network, self.temperature = bundle.network(), bundle.temperature
        self.mean_C11 = bundle.mean_C.view(-1, 1, 1)
        self.scale_C11 = 1 / bundle.std_C.view(-1, 1, 1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits_NK = self.network((images.float() / 255 - self.mean_C11) * self.scale_C11)
        return logits_NK, (logits_NK / self.temperature).softmax(1)


def export_onnx(bundle: Bundle, folder: Path, images_NCHW: torch.Tensor) -> Exported:
    """Write `model.onnx` into `folder`, after comparing it with torch on the given uint8 images.

    Raises BundleError as `as_onnx`, or if the file cannot be written.
    """
    payload, exported = as_onnx(bundle, images_NCHW)
    with writing_into(folder):
        write_atomically(folder / ONNX, payload)
    return exported


def as_onnx(bundle: Bundle, images_NCHW: torch.Tensor) -> tuple[bytes, Exported]:
    """The content of `model.onnx`, compared with torch on the given uint8 images.

    Raises BundleError if packages are missing, the network cannot be converted, or the two differ
    by more than `TOLERANCE`.
    """
    require_onnx()
    images_NCHW = images_NCHW[:CHECKED].cpu()
    model = _Deployed(bundle).to(memory_format=torch.contiguous_format).eval()
    remedy = "change the network"
    try:
        payload = _converted(model, bundle, images_NCHW[:2])
        remedy = "let its forward take any number of images: x.shape[0], not len(x)"
        with torch.inference_mode():
            wanted_NK = model(images_NCHW)[0].numpy()
        difference = max(
            float(np.abs(_computed(payload, images_NCHW[:n].numpy()) - wanted_NK[:n]).max())
            for n in (1, CHECKED)
        )
    except Exception as error:  # the exporter, onnx and onnxruntime each raise errors of their own
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporter's own words are general advice
            cause = cause.__cause__
        raise BundleError(
            f"the network of study {bundle.study!r} cannot be converted to ONNX "
            f"({type(cause).__name__}: {first_line(cause)}); leave out --export of finalize, or "
            f"{remedy}"
        ) from error
    if not difference <= TOLERANCE:
        raise BundleError(
            f"the ONNX model differs from torch by {difference:.2g} in a logit (at most "
            f"{TOLERANCE:g} is rounding) and was not written; try other versions of onnxscript"
        )
    return payload, Exported(difference, len(images_NCHW))


def _converted(model: _Deployed, bundle: Bundle, images_NCHW: torch.Tensor) -> bytes:
    """The content of the file. Raises whatever the exporter raises."""
    import onnx

    # The exporter chatters on standard output and warns about its own internals.
    for name in ("onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            model,
            (images_NCHW,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits", "probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            verbose=False,
        )
    assert program is not None
    proto: Any = program.model_proto  # includes the weights
    proto.metadata_props.add(key="class_names", value=json.dumps(bundle.class_names))
    proto.metadata_props.add(key="study", value=bundle.study)
    proto.metadata_props.add(key="dataset", value=bundle.dataset)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def _computed(payload: bytes, images_NCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits (N, K) with onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"images": images_NCHW})[0])
