"""The ONNX file gives what torch gives, for any number of images, as bytes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from models import (
    FAMILIES,
    Architecture,
    ConvNetConfig,
    MLPConfig,
    build,
    family_from_function,
)
from search.final import export
from search.final.export import ONNX, export_onnx, require_onnx
from search.training.bundle import Bundle
from search.training.epoch import BundleError

NETWORKS = [
    ConvNetConfig(channels=(4, 6), batch_norm=True, hidden=(16,), dropout_linear=0.5),
    ConvNetConfig(channels=(4, 6, 6), residual=True, head="global", activation="gelu"),
    MLPConfig(hidden=(8,), batch_norm=True),
]


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8, generator=generator)


@pytest.mark.usefixtures("in_float32")
@pytest.mark.parametrize("architecture", NETWORKS, ids=["cnn", "residual", "mlp"])
def test_it_gives_torchs_probabilities(
    architecture: Architecture, bundle: Bundle, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    weights = build(architecture, (1, 28, 28), 4).state_dict()
    bundle = dataclasses.replace(bundle, architecture=architecture, weights=weights)
    made = export_onnx(bundle, tmp_path, images(10))
    assert made.difference < 1e-4
    assert made.images == 10
    session = runtime.InferenceSession(tmp_path / ONNX, providers=["CPUExecutionProvider"])
    for count in (1, 3, 65):
        _, shares = session.run(None, {"images": images(count).numpy()})
        assert shares == pytest.approx(bundle.probabilities(images(count)).numpy(), abs=1e-5)
    properties = {item.key: item.value for item in onnx.load(tmp_path / ONNX).metadata_props}
    assert json.loads(properties["class_names"]) == list(bundle.class_names)
    assert not list(tmp_path.glob("*.data"))  # the weights are inside


def test_a_model_that_differs_is_not_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    computed = export._computed

    monkeypatch.setattr(export, "_computed", lambda *arguments: computed(*arguments) + 0.01)
    with pytest.raises(BundleError, match=r"differs from torch by 0\.01"):
        export_onnx(bundle, tmp_path, images(2))
    assert not (tmp_path / ONNX).exists()


class Unknown(nn.Linear):
    """A linear layer, then a function that ONNX does not have."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return super().forward(images_NCHW.flatten(1)).digamma()


def test_a_network_that_onnx_cannot_express_is_refused_in_one_line(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    family = family_from_function("unknown", lambda _, classes: Unknown(28 * 28, classes))
    monkeypatch.setitem(FAMILIES, "unknown", family)
    weights = Unknown(28 * 28, 4).state_dict()
    own = dataclasses.replace(bundle, architecture=family.configured({}), weights=weights)
    with pytest.raises(BundleError, match=r"'blobs' cannot .*digamma.*; leave out --export") as no:
        export_onnx(own, tmp_path, images(2))
    assert "\n" not in str(no.value)
    assert not (tmp_path / ONNX).exists()


def test_a_file_that_cannot_be_written_is_named(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    (tmp_path / ONNX).mkdir()
    with pytest.raises(BundleError, match=r"cannot write .*; free some space or fix its perm"):
        export_onnx(bundle, tmp_path, images(2))


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BundleError, match=r"needs onnx, .*pip install 'cnn-search\[onnx\]'$"):
        require_onnx()
