"""Arbitrary files of networks are read, or refused in one line, in bounded memory.

Hypothesis makes up a few examples per run; `pytest --hypothesis-profile=long` on this file searches
for some minutes. Whatever it has found is kept as an explicit example.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as to_safetensors

from data.folders.composition import Composition
from models import ConvNetConfig, build
from search.final.predict import predict
from search.predict import as_json
from search.training.bundle import CONFIG, Bundle, read_bundle, write_bundle
from search.training.epoch import BundleError, WeightsError
from search.training.files import MAGIC, WEIGHTS, latest_checkpoint
from search.training.weights import fitting_weights
from tests.hostile import bounded_memory, damaged, edited, refused_in_a_line

NETWORK = ConvNetConfig(channels=(2, 3), batch_norm=True, hidden=(4,))


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory() -> Iterator[None]:
    with bounded_memory(2**32):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    with Image.open(PICTURE) as picture:
        picture.convert("L").resize((40, 30)).save(made / "grey.png")  # its figure is repositioned
    return made


# Finished networks

torch.manual_seed(0)
BUNDLE = Bundle(
    study="s", trial=3, seed=0, epochs=2, dataset="d", title="D", class_names=("a", "b"),
    image_shape=(1, 8, 8), mean_C=torch.tensor([0.1]), std_C=torch.tensor([0.3]),
    composition=Composition(on_dark=True, ground=0, level=1, size=0.7),
    architecture=NETWORK, recipe={"epochs": 2}, weights=build(NETWORK, (1, 8, 8), 2).state_dict(),
)  # fmt: skip


with TemporaryDirectory() as made:
    write_bundle(BUNDLE, Path(made))
    PAYLOAD, TEXT = (Path(made, name).read_bytes() for name in (WEIGHTS, CONFIG))


PICTURE = Path(__file__).parents[3] / "docs" / "dashboard-light.png"


def use_bundle(folder: Path) -> None:
    with refused_in_a_line(BundleError):
        bundle = read_bundle(folder)
        pictures = [PICTURE, folder / "grey.png"]
        found = predict(pictures, bundle=bundle, sheet=folder / "sheet.png")
        json.dumps(as_json(found, 3, folder), allow_nan=False)


def with_value(*path: Any, value: Any) -> Any:
    """What config.json holds, with one value changed."""
    tree = owner = json.loads(TEXT)
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = value
    return tree


@given(damaged(json.loads(TEXT)))
@example(with_value("study", value="\ud800"))
@example(with_value("trial", value=math.inf))
@example(with_value("image_shape", value=[1, 10**9, 10**9]))
@example(with_value("image_shape", value="888"))
@example(with_value("class_names", value="ab"))
@example(with_value("class_names", value=["x"] * 100_000))
@example(with_value("class_names", value=["x" * 10**6, "b"]))
@example(with_value("std", value=[0]))
@example(with_value("std", value=[1e-320]))
@example(with_value("mean", value=[10**400]))
@example(with_value("composition", "size", value="big"))
@example(with_value("composition", "size", value=math.nan))
@example(with_value("composition", "size", value=-math.inf))
@example(with_value("architecture", "hidden", value=[10**9]))
@example(with_value("architecture", "hidden", value=[1] * 100_000))
@example(with_value("architecture", "dropout_linear", value=10**400))
@example(with_value("architecture", "padding", value=10**9))
def test_descriptions_of_networks(folder: Path, tree: Any) -> None:
    (folder / WEIGHTS).write_bytes(PAYLOAD)
    (folder / CONFIG).write_text(json.dumps(tree))
    use_bundle(folder)


@given(edited(TEXT))
@example(b"[" * 100_000)
@example(TEXT.replace(b'"trial": 3', b'"trial": 1e999'))
@example(TEXT.replace(b'"trial": 3', b'"trial": ' + b"9" * 5000))
def test_descriptions_with_edited_bytes(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(PAYLOAD)
    (folder / CONFIG).write_bytes(content)
    use_bundle(folder)


@given(edited(PAYLOAD))
@example(to_safetensors({}))
@example(to_safetensors({name: w * math.nan for name, w in BUNDLE.weights.items()}))
@example(to_safetensors({name: w * 1e19 for name, w in BUNDLE.weights.items()}))
@example(to_safetensors({name: torch.zeros(99) for name in BUNDLE.weights}))
def test_weights_with_edited_bytes(folder: Path, payload: bytes) -> None:
    (folder / WEIGHTS).write_bytes(payload)
    digest = hashlib.sha256(payload).hexdigest()
    (folder / CONFIG).write_text(json.dumps(with_value("weights_sha256", value=digest)))
    use_bundle(folder)


# Weights to start from, and checkpoints


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


INITIAL = dict(build(NETWORK, (1, 8, 8), 2).state_dict())
SAVED = [saved(INITIAL), saved(INITIAL, _use_new_zipfile_serialization=False)]
FIRST = "conv1.weight"


@given(st.one_of(*map(edited, SAVED)).map(lambda content: (content, ".pth"))
       | edited(PAYLOAD).map(lambda content: (content, ".safetensors")))  # fmt: skip
@example((saved({**INITIAL, FIRST: INITIAL[FIRST] * math.nan}), ".pth"))
@example((saved({**INITIAL, FIRST: INITIAL[FIRST].to_sparse()}), ".pth"))
@example((saved({**INITIAL, FIRST: INITIAL[FIRST] * 1j}), ".pth"))
@example((saved({**INITIAL, FIRST: INITIAL[FIRST].to("meta")}), ".pth"))
@example((saved({**INITIAL, FIRST: torch.zeros(1).expand(10**6, 10**6)}), ".pth"))
@example((saved({1: INITIAL[FIRST]}), ".pth"))
def test_initial_weights(folder: Path, file: tuple[bytes, str]) -> None:
    content, suffix = file
    path = folder / f"weights{suffix}"
    path.write_bytes(content)
    with refused_in_a_line(WeightsError):
        fitting_weights(build(NETWORK, (1, 8, 8), 10), NETWORK, str(path))
    path.unlink()


@given(st.one_of(*map(edited, [*SAVED, saved({"identity": {}, "training": {"epoch": 1}})])))
def test_checkpoints_with_a_correct_digest(folder: Path, payload: bytes) -> None:
    assume(payload)
    path = folder / "trial-0.pt"
    path.write_bytes(MAGIC + hashlib.sha256(payload).digest() + payload)
    latest_checkpoint(path, {})  # raises nothing
