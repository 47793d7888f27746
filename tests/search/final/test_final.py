"""finalise: the same as the command, from Python, and quiet."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from search import finalize
from search.final import final
from search.final.final import finalise
from search.final.predict import predict
from search.running.results import load_study
from search.training.epoch import StoppedError

OF_THE_MOMENT = ("seconds", "opened_at")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process, and no pictures: drawing them takes longer than the training."""
    monkeypatch.setattr(final, "default_workers", lambda _: 1)
    monkeypatch.setattr(final, "save_pictures", lambda *_: [])


def test_command_and_function_do_the_same(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    readings = len(load_study("digits").results)
    ours = finalise("digits", seeds=2)
    assert capfd.readouterr() == ("", "")
    folder = place / "runs" / "digits" / f"final-{readings + 1}"
    assert ours.folder.resolve() == folder.resolve()
    assert json.loads((folder / "metrics.json").read_text()) == ours.metrics
    weights = (folder / "model.safetensors").read_bytes()

    assert finalize.main(["--study", "digits", "--seeds", "2"]) == 0
    assert "Written to runs/digits/final" in capfd.readouterr().out
    theirs = json.loads((folder / "metrics.json").read_text())
    assert same(theirs) == same(ours.metrics)
    assert (folder / "model.safetensors").read_bytes() == weights
    assert len(load_study("digits").results) == readings + 1  # of the same weights

    # The network at hand is the one in the folder.
    picture = Path("mine.png")
    image = Image.new("L", (60, 60), 255)
    ImageDraw.Draw(image).line([(30, 8), (30, 52)], fill=0, width=8)
    image.save(picture)
    assert predict(picture, bundle=ours.bundle).table() == predict(picture, bundle=folder).table()


def same(metrics: Any) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name not in OF_THE_MOMENT}


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": 0}, "seeds must be a whole number from 1 up, but got 0"),
        ({"seeds": 2.0}, "seeds must be a whole number"),
        ({"trial": 99}, "has no trial 99"),
        ({"arm": "x"}, "no arm 'x'"),
        ({"trial": 0, "arm": "x"}, "either a trial or an arm"),
        ({"export": "tflite"}, "export must be 'onnx' or None, but got 'tflite'"),
        ({"image": -1}, "-1"),
        ({"image": 99999}, "no training image 99999"),
        ({"study": "no such"}, "not usable"),
        ({"device": "tpu"}, "unknown device"),
    ],
)
def test_bad_arguments_end_before_any_training(
    wrong: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final, "train_all", lambda *_, **__: pytest.fail("trained"))
    readings = len(load_study("digits").results)
    with pytest.raises(ValueError, match=said) as refused:
        finalise(**{"study": "digits", **wrong})
    assert len(str(refused.value).splitlines()) == 1
    assert len(load_study("digits").results) == readings


@pytest.mark.usefixtures("place")
def test_stopped_it_leaves_the_test_set_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the word comes when the last epoch is over."""
    readings = len(load_study("digits").results)
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        finalise("digits", seeds=1, stop=stop)
    late, train = threading.Event(), final.train_seed

    def trained(*arguments: Any, **options: Any) -> Any:
        run = train(*arguments, **options)
        late.set()
        return run

    monkeypatch.setattr(final, "train_seed", trained)
    with pytest.raises(StoppedError):
        finalise("digits", seeds=1, stop=late)
    assert len(load_study("digits").results) == readings
    assert finalise("digits", seeds=1).metrics["test"]["seeds"] == 1
