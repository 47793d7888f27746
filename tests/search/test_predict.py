"""search.predict with only a bundle: large digits, output for people and programs, bad input."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from data.datasets import load_test, load_training
from data.folders.composition import measure
from data.folders.preparation import Preparation
from models import ConvNetConfig
from search.final.predict import predict as classify
from search.spec.recipe import Recipe
from search.training.bundle import Bundle, read_bundle, write_bundle
from search.training.epoch import BundleError
from search.training.task import make_task
from search.training.train import train
from tests.search.conftest import Refused

# `search.predict` is the function, unless the command's module is asked for by its full name.
predict = importlib.import_module("search.predict")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/digits/final, and large digits in drawn/; no data, no database."""
    place = tmp_path_factory.mktemp("predict")
    info, examples = load_training("digits", place)
    task = make_task(info, examples, examples.select(torch.arange(0)), torch.device("cpu"))
    architecture = ConvNetConfig(channels=(24, 48), batch_norm=True, hidden=(64,))
    recipe = Recipe(epochs=12, batch_size=64, learning_rate=5e-3)
    training = train(architecture, recipe, task, seed=0)
    list(training)
    bundle = Bundle(
        study="digits", trial=4, seed=0, epochs=12, dataset="digits", title=info.title,
        class_names=info.class_names, image_shape=info.image_shape, mean_C=task.mean_C,
        std_C=task.std_C, composition=measure(examples.images_NCHW.numpy()),
        architecture=architecture, recipe=recipe.to_dict(),
        weights={name: w.contiguous() for name, w in training.model.state_dict().items()},
    )  # fmt: skip
    write_bundle(bundle, place / "runs" / "digits" / "final")
    (place / "drawn").mkdir()
    for digit in range(10):
        image_HW = examples.images_NCHW[examples.labels_N == digit][-1, 0].numpy()
        chalk = Image.new("L", (400, 300))
        chalk.paste(Image.fromarray(image_HW).resize((160, 160)), (30, 90))
        chalk.save(place / "drawn" / f"{digit}-chalk.png")
        ImageOps.invert(chalk).resize((133, 100)).save(place / "drawn" / f"{digit}-paper.png")
    return place


@pytest.fixture
def place(trained: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of `trained` to work in, as the current directory."""
    shutil.copytree(trained / "runs", here / "runs")
    (here / "drawn").symlink_to(trained / "drawn")
    monkeypatch.setenv("SEARCH_DATA_DIR", str(here / "nowhere"))
    yield here
    assert not (here / "nowhere").exists()
    assert not list(here.glob("*.db"))


def test_drawn_digits_of_all_styles(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the network's own code prints, the output is JSON."""
    pictures = sorted(map(str, (place / "drawn").iterdir()))

    def printing(*arguments: Any, **options: Any) -> Any:
        print("from a network of my own")
        return classify(*arguments, **options)

    monkeypatch.setattr("search.final.predict.predict", printing)
    assert predict.main(["--json", "--top", "2", *pictures]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["study"], told["trial"], told["dataset"]) == ("digits", 4, "digits")
    assert [one["file"] for one in told["pictures"]] == pictures
    right = 0
    for one in told["pictures"]:
        digit, style = Path(one["file"]).stem.split("-")
        right += one["label"] == digit
        assert one["top"][0] == {"label": one["label"], "probability": one["probability"]}
        assert len(one["top"]) == 2
        inverted = any("inverted" in note for note in one["prepared"])
        assert inverted == (style == "paper"), one
    assert right >= 0.75 * len(pictures)
    assert told["sheet"] == "runs/digits/final/predictions.png"
    with Image.open(told["sheet"]) as image:
        assert min(image.size) > 500


@pytest.mark.parametrize("levels", [None, (0, 1)])
def test_an_enlarged_test_image_gets_the_same_label(
    place: Path, levels: tuple[float, float] | None
) -> None:
    """Also as a file of 16 bits, of a network that was trained on arrays of floats."""
    images_NCHW = load_test("digits", place).images_NCHW[:40]
    bundle = read_bundle(place / "runs/digits/final")
    own_N = bundle.probabilities(images_NCHW).argmax(1)
    write_bundle(replace(bundle, preparation=Preparation(levels=levels)), place / "arrays")
    (place / "large").mkdir()
    for size, filter, fewest in ((128, Image.Resampling.NEAREST, 40), (300, None, 39)):
        for number, image_CHW in enumerate(images_NCHW):
            large = Image.fromarray(image_CHW[0].numpy()).resize((size, size), filter)
            turned = ImageOps.invert(large) if number % 2 else large  # on paper
            if levels is not None:
                turned = Image.fromarray(np.asarray(turned, np.uint16) * np.uint16(257))
            turned.save(place / "large" / f"{number:02}.png")
        found = classify("large", bundle="arrays").pictures
        same = [one.label == own for one, own in zip(found, own_N.tolist(), strict=True)]
        assert sum(same) >= fewest, size


def test_output_for_people(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "mine" / "deep").mkdir(parents=True)
    shutil.copy(place / "drawn" / "7-paper.png", place / "mine" / "deep" / "seven\x1b[31m.png")
    shutil.copy(place / "drawn" / "0-chalk.png", place / "mine" / "zero.png")
    for number in range(11):
        (place / "mine" / f"{number:02}.txt").write_text("x")
    mine, sheet = str(place / "mine"), str(place / "sheet.PNG")
    assert predict.main(["--sheet", sheet, mine, "--study", "digits"]) == 0
    out, err = capsys.readouterr()
    zero, seven = out.splitlines()
    assert zero.startswith("mine/zero.png ")
    assert " 0 " in zero
    assert "mine/deep/seven�[31m.png" in seven
    assert "dark on light, inverted" in seven
    assert "\x1b" not in out + err
    named = re.findall(r"^Skipped: .*mine/(\d\d)\.txt is no picture", err, re.MULTILINE)
    assert named == [f"{number:02}" for number in range(10)]
    assert "\nSkipped 1 more file\n" in err
    assert "Contact sheet: sheet.PNG" in err
    assert (place / "sheet.PNG").exists()


def test_without_room_for_a_sheet_the_predictions_are_printed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with somebody else's network; only a sheet that was asked for is an error."""
    (place / "runs/digits/final/predictions.png").mkdir()
    assert predict.main(["--json", "drawn/7-chalk.png"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert (len(told["pictures"]), told["sheet"]) == (1, None)
    assert "cannot write the contact sheet runs/digits/final/predictions.png" in err
    (place / "full").write_text("x")
    with pytest.raises(BundleError, match=r"full/s\.png .*give another --sheet"):
        predict.main(["drawn/7-chalk.png", "--sheet", "full/s.png"])
    assert capsys.readouterr().out.startswith("drawn/7-chalk.png ")


def test_links_to_folders_are_reported_and_read_when_named(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "hidden").mkdir()
    shutil.copy(place / "drawn" / "7-paper.png", place / "hidden")
    (place / "hidden" / "linked").symlink_to(place / "drawn")
    assert predict.main(["hidden", "hidden/linked"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 21
    assert "Skipped: hidden/linked is a link to a folder; name it" in err


def test_bad_input_ends_in_one_line(place: Path, refused: Refused) -> None:
    (place / "text.png").write_text("x")
    before = sorted(str(path) for path in place.rglob("*"))
    for words, said in (
        (["text.png"], "cannot be read as a picture"),
        (["a\x1b[31m\nb.png"], "cannot read a\\x1b[31m b.png"),
        (["--top", "0", "drawn"], "from 1 up"),
    ):
        assert said in refused(predict.main, words)
    assert sorted(str(path) for path in place.rglob("*")) == before
