"""finalize on a real, small study: what it writes, that it repeats, and what it records."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.datasets import default_data_dir, load_test
from models import build, from_dict
from search import finalize, study
from search.training.evaluate import logits
from search.trials.catalog import require_study
from search.trials.opening import open_database
from search.trials.view import view_study


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of three trials."""
    folder = tmp_path_factory.mktemp("finalize")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study.main(["--dataset", "digits", "--trials", "3", "--epochs", "3", "--workers", "1"])
    return folder


@pytest.fixture
def metrics(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> dict[str, Any]:
    """Of the first run, which is made once."""
    monkeypatch.chdir(place)
    file = place / "runs" / "digits" / "final" / "metrics.json"
    if not file.exists():
        assert finalize.main(["--seeds", "2"]) == 0
        assert "test (2 runs)" in capsys.readouterr().out
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def view() -> Any:
    db = open_database("sqlite:///studies.db", must_exist=True)
    return view_study(db, require_study(db, "digits"))


def test_what_it_writes(place: Path, metrics: dict[str, Any]) -> None:
    folder = place / "runs" / "digits" / "final"
    assert {"model.safetensors", "config.json", "metrics.json", "report.html"} <= {
        path.name for path in folder.iterdir()
    }
    assert (folder / "confusion.png").exists()
    assert metrics["study"] == "digits"
    assert metrics["dataset"] == "digits"
    assert metrics["trial"] == view().best.number
    assert metrics["epochs"] == view().best.best.epoch
    test = metrics["test"]
    assert test["seeds"] == len(test["per_seed"]) == 2
    each = [seed["accuracy"] for seed in test["per_seed"]]
    assert test["accuracy"] == pytest.approx(np.mean(each))
    assert test["std"] == pytest.approx(np.std(each, ddof=1))
    assert test["error"] == pytest.approx(1 - test["accuracy"])
    confusion = np.array(metrics["confusion"])
    assert confusion.sum() == 2 * 360
    assert np.trace(confusion) / confusion.sum() == pytest.approx(test["accuracy"])
    assert metrics["parameters"] > 0
    assert {"hardware", "versions"} <= set(metrics)
    assert not list((place / "runs" / "digits" / "checkpoints").glob("final*"))


def test_the_bundle_alone_gives_the_first_seeds_figures(
    place: Path, metrics: dict[str, Any]
) -> None:
    folder = place / "runs" / "digits" / "final"
    config = json.loads((folder / "config.json").read_text())
    model = build(
        from_dict(config["architecture"]), tuple(config["image_shape"]), len(config["class_names"])
    )
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict(weights)
    assert sum(p.numel() for p in model.parameters()) == metrics["parameters"]
    examples = load_test("digits", default_data_dir())
    predicted = logits(
        model.to(memory_format=torch.channels_last),
        examples.images_NCHW,
        torch.tensor(config["mean"]),
        torch.tensor(config["std"]),
    ).argmax(1)
    accuracy = (predicted == examples.labels_N).double().mean().item()
    assert accuracy == pytest.approx(metrics["test"]["per_seed"][0]["accuracy"], abs=1e-6)


def test_each_reading_of_the_test_set_is_recorded_and_said(
    place: Path, metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(view().results)
    assert before >= 1
    assert view().results[0].figures["accuracy"] == metrics["test"]["accuracy"]
    assert finalize.main(["--seeds", "2"]) == 0
    printed = capsys.readouterr()
    first = f"{view().results[0].opened_at:%Y-%m-%d}"
    for said in (printed.out, printed.err):  # in the summary, and before the training
        assert "had been opened" in " ".join(said.split())
        assert first in said
    assert len(view().results) == before + 1
    again = json.loads((place / "runs/digits/final/metrics.json").read_text())
    assert again["test"] == metrics["test"]  # the same seeds on the same machine


def test_interrupted_it_goes_on_to_the_same_figures(
    metrics: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal in the middle of the second seed; the next start trains only what is missing."""
    epochs: list[int] = []
    told = finalize.FinalProgress.epoch

    def tell(self: Any, seed: int, epoch: Any) -> None:
        told(self, seed, epoch)
        epochs.append(seed)
        if len(epochs) == metrics["epochs"] + 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(finalize.FinalProgress, "epoch", tell)
    readings = len(view().results)
    assert finalize.main(["--seeds", "2"]) == 130
    assert len(view().results) == readings  # the test set was not opened
    first = len(epochs)
    assert finalize.main(["--seeds", "2"]) == 0
    assert len(epochs) == 2 * metrics["epochs"]
    assert first == metrics["epochs"] + 1
    assert json.loads(Path("runs/digits/final/metrics.json").read_text())["test"] == metrics["test"]


@pytest.mark.usefixtures("metrics")
def test_the_test_set_is_opened_after_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while it scores has seen the test set too."""

    def die(*_: Any, **__: Any) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(finalize, "load_test", die)
    readings = len(view().results)
    with pytest.raises(RuntimeError, match="power cut"):
        finalize.main(["--seeds", "1"])
    assert len(view().results) == readings + 1
    assert view().results[-1].figures is None
