"""predict: the same as the command, from Python."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from data.datasets import load_training
from data.folders.composition import measure
from models import ConvNetConfig, build
from search.final.predict import predict
from search.spec.domains import SpecError
from search.spec.recipe import Recipe
from search.training.bundle import Bundle, read_bundle, write_bundle
from search.training.epoch import BundleError

command = importlib.import_module("search.predict")  # `from search import predict` is the function


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """runs/digits/final with an untrained network, and drawn/ with pictures; as present folder."""
    monkeypatch.chdir(tmp_path)
    info, examples = load_training("digits", Path())
    architecture = ConvNetConfig(channels=(4,), hidden=(8,))
    torch.manual_seed(0)
    network = build(architecture, info.image_shape, len(info.class_names))
    bundle = Bundle(
        study="digits",
        trial=1,
        seed=0,
        epochs=1,
        dataset="digits",
        title=info.title,
        class_names=info.class_names,
        image_shape=info.image_shape,
        mean_C=torch.tensor([0.3]),
        std_C=torch.tensor([0.4]),
        composition=measure(examples.images_NCHW.numpy()),
        architecture=architecture,
        recipe=Recipe(epochs=1, batch_size=64, learning_rate=1e-3).to_dict(),
        weights=network.state_dict(),
    )
    write_bundle(bundle, Path("runs/digits/final"))
    Path("drawn").mkdir()
    for name, ink, ground in (("a", 0, 255), ("b", 255, 0)):
        image = Image.new("L", (60, 40), ground)
        ImageDraw.Draw(image).line([(20, 8), (40, 30)], fill=ink, width=6)
        image.save(f"drawn/{name}.png")
    Path("drawn/notes.txt").write_text("no picture")
    return Path("runs/digits/final")


@pytest.mark.usefixtures("folder")
def test_command_and_function_do_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--json", "--top", "4", "drawn"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    ours = predict("drawn")
    assert json.loads(json.dumps(ours.table(top=4))) == theirs["pictures"]
    assert len(theirs["pictures"]) == 2
    assert [str(one.path) for one in ours.skipped] == [one["file"] for one in theirs["skipped"]]
    assert capsys.readouterr() == ("", "")
    for row in ours.table(top=10):
        assert sum(one["probability"] for one in row["top"]) == pytest.approx(1, abs=1e-5)
        assert (row["label"], row["probability"]) == tuple(row["top"][0].values())
    assert len(ours.table()[0]["top"]) == 3


def test_one_network_in_four_ways(folder: Path) -> None:
    expected = predict(["drawn/a.png", Path("drawn/b.png")], bundle=folder).table()
    assert predict("drawn", bundle=str(folder)).table() == expected
    assert predict(Path("drawn"), bundle=read_bundle(folder)).table() == expected
    assert predict(["drawn"], study="digits").table() == expected


def test_the_contact_sheet_comes_when_it_is_asked_for(folder: Path) -> None:
    predict("drawn")
    assert not list(folder.glob("*.png"))
    predict("drawn", sheet="seen.png")
    with Image.open("seen.png") as sheet:
        assert sheet.width > 100


@pytest.mark.usefixtures("folder")
def test_bad_arguments() -> None:
    with pytest.raises(BundleError, match=r"name it \.png"):
        predict("drawn", sheet="sheet.jpg")
    with pytest.raises(BundleError):
        predict("drawn", bundle="nowhere")
    with pytest.raises(SpecError, match="not usable"):
        predict("drawn", study="../digits")
    with pytest.raises(SpecError, match="either a bundle or a study"):
        predict("drawn", bundle="runs/digits/final", study="digits")
    with pytest.raises(SpecError, match="top must be a whole number"):
        predict("drawn").table(top=0)
