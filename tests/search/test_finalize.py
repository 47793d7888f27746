"""finalize on a real, small study: what it writes, that it repeats, and what it records."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.datasets import default_data_dir, load_test
from search import export, finalize
from search.final import runs
from search.store import StorageError
from search.store.opening import open_database
from search.store.studies import require_study, set_total
from search.store.views import view_study
from search.training.bundle import read_bundle
from search.training.metrics import calibration_error, reliability
from tests.search.conftest import copy_untested


@pytest.fixture(scope="module")
def place(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of three trials, not finalised yet."""
    return copy_untested(searched, tmp_path_factory.mktemp("finalize") / "place")


@pytest.fixture
def metrics(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, request: pytest.FixtureRequest
) -> dict[str, Any]:
    """The metrics of the first run, made only once, in the study's folder as current directory.
    Later ones draw nothing."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(runs, "default_workers", lambda _: 1)
    file = Path("runs/digits/final/metrics.json")
    if not file.exists():
        assert finalize.main(["--seeds", "2"]) == 0
        assert "test (2 runs)" in capsys.readouterr().out
    request.getfixturevalue("plainly")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def view() -> Any:
    db = open_database("sqlite:///studies.db", must_exist=True)
    return view_study(require_study(db, "digits"))


def written(number: int | None = None) -> dict[str, Any]:
    end = "" if number is None else f"-{number}"
    content: dict[str, Any] = json.loads(Path(f"runs/digits/final{end}/metrics.json").read_text())
    return content


def test_what_it_writes(metrics: dict[str, Any]) -> None:
    place = Path("runs/digits/final")
    drawn = ("confusion", "curves", "kernels", "features", "mistakes")
    names = {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    names |= {"model.safetensors", "config.json", "metrics.json", "report.html"}
    assert names <= files(place).keys()
    assert (metrics["study"], metrics["dataset"]) == ("digits", "digits")
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
    assert {"hardware", "versions"} <= set(metrics)
    assert len(list(Path("runs/digits/checkpoints").glob("final*"))) == 2  # one for each seed


def test_the_bundle_alone_gives_the_first_seeds_accuracy(metrics: dict[str, Any]) -> None:
    bundle = read_bundle(Path("runs/digits/final"))
    assert sum(p.numel() for p in bundle.network().parameters()) == metrics["parameters"]
    examples = load_test("digits", default_data_dir())
    shares_NK = bundle.probabilities(examples.images_NCHW)
    first = metrics["test"]["per_seed"][0]
    assert bundle.temperature == metrics["temperature"] != 1
    assert metrics["test"]["calibration"]["temperature"] == metrics["temperature"]
    loss = torch.nn.functional.nll_loss(shares_NK.double().log(), examples.labels_N)
    assert float(loss) == pytest.approx(first["calibration"]["loss"], rel=1e-4)
    error = calibration_error(reliability(shares_NK, examples.labels_N))
    assert error == pytest.approx(first["calibration"]["error_after"], abs=1e-4)
    predicted = shares_NK.argmax(1)
    accuracy = (predicted == examples.labels_N).double().mean().item()
    assert accuracy == pytest.approx(first["accuracy"], abs=1e-6)


def test_each_evaluation_is_recorded_announced_and_kept_in_its_own_folder(
    metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(view().results)
    assert before >= 1
    first = files(Path("runs/digits/final"))
    assert view().results[0].figures["accuracy"] == metrics["test"]["accuracy"]
    assert finalize.main(["--seeds", "1"]) == 0
    printed = capsys.readouterr()
    day = f"{view().results[0].opened_at:%Y-%m-%d}"
    for said in (printed.out, printed.err):  # in the summary, and before the training
        assert "had been evaluated" in " ".join(said.split())
        assert day in said
    assert len(view().results) == before + 1
    assert f"Written to runs/digits/final-{before + 1}" in printed.out
    assert written(before + 1)["test"]["seeds"] == 1
    assert files(Path("runs/digits/final")) == first
    assert Path("runs/digits/final").readlink() == Path("final-1")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("plainly")
def test_an_unfinished_study_is_finalised_only_with_now(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(shutil.copytree(searched, tmp_path / "copy"))
    with closing(open_database("sqlite:///studies.db", must_exist=True)) as database:
        set_total(require_study(database, "digits"), 4)
    before, finished = view().results, view().finished  # paused ones may resume
    with pytest.raises(StorageError, match=rf"has {finished} of its 4 trials.* give --now"):
        finalize.main(["--seeds", "1"])
    assert view().results == before
    assert finalize.main(["--seeds", "1", "--now"]) == 0
    assert f"still lacks {4 - finished} of its trials" in capsys.readouterr().err


@pytest.mark.usefixtures("metrics")
def test_interrupted_it_resumes_and_gets_the_same_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal in the middle of both runs; the next start trains what is missing."""
    epochs: list[int] = []

    @contextmanager
    def shown(*_: Any) -> Iterator[Any]:
        def tell(seed: int, _epoch: Any) -> None:
            epochs.append(seed)
            if len(epochs) == 2:
                signal.raise_signal(signal.SIGINT)

        yield tell

    monkeypatch.setattr(runs, "default_workers", lambda _: 2)
    monkeypatch.setattr(runs, "shown_progress", shown)
    before = len(view().results)
    long = ["--seeds", "2", "--epochs", "12"]  # seconds, or the signal may come too late
    assert finalize.main(long) == 130
    assert len(view().results) == before  # the test set was not opened
    assert 2 <= len(epochs) < 2 * 12
    monkeypatch.setattr(runs, "default_workers", lambda _: 1)  # resumes what both left
    assert finalize.main(long) == 0
    assert len(epochs) <= 2 * 12
    resumed = written(before + 1)
    trained = len(epochs)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "default_workers", lambda _: 2)
        patch.setattr(runs, "ChildProcess", lambda *_, **__: pytest.fail("a process was started"))
        assert finalize.main(long) == 0
    assert len(epochs) == trained
    # One uninterrupted process gets the same weights, which are not tested again.
    for kept in Path("runs/digits/checkpoints").glob("final*"):
        kept.unlink()
    assert finalize.main(long) == 0
    assert len(epochs) == trained + 2 * 12
    assert len(view().results) == before + 1
    assert written(before + 1)["training"] == resumed["training"]
    used = set(Path("runs/digits/checkpoints").glob("final*"))
    for kept in used:
        os.utime(kept, (0, 0))  # long ago: others of that age are deleted
    assert finalize.main(["--seeds", "3", "--epochs", "12"]) == 0
    assert len(used) == sum(it.exists() for it in used) == 2
    assert len(epochs) == trained + 3 * 12
    assert len(view().results) == before + 2


def test_another_trial_and_onnx(
    metrics: dict[str, Any], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    other = next(t for t in view().trials if t.number != metrics["trial"] and t.best is not None)
    arguments = ["--trial", str(other.number), "--seeds", "1"]
    assert finalize.main([*arguments, "--export", "onnx"]) == 0
    said = capsys.readouterr().out
    assert f"Trial {other.number} was named by hand, not the study's best" in " ".join(said.split())
    assert "logits differ from PyTorch's by" in said
    number = len(view().results)
    made = Path(f"runs/digits/final-{number}")
    assert written(number)["trial"] == other.number != metrics["trial"]
    assert view().results[-1].trial_number == other.number
    assert "named by hand" in view().results[-1].figures["chosen"]
    assert read_bundle(made).trial == other.number
    exported = (made / "model.onnx").read_bytes()
    assert finalize.main(arguments) == 0  # of the same network, without --export
    assert (made / "model.onnx").read_bytes() == exported
    (made / "model.onnx").unlink()
    export_onnx = "search.final.export.export_onnx"
    monkeypatch.setattr(export_onnx, lambda _, at, __: (at / "model.onnx").touch())
    assert export.main(["--bundle", str(made)]) == 0
    assert (made / "model.onnx").exists()
