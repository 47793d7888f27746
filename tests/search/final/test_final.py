"""finalise from Python: as the command, quiet; killed or stopped, one evaluation and all files."""

import errno
import json
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from PIL import Image

from search import finalize
from search.figures.final import reliability_diagram
from search.final import final, runs
from search.final.final import finalise, look_inside
from search.final.predict import predict
from search.pages.render import in_utc
from search.running.results import load_study
from search.running.study import run_study
from search.store import FolderGoneError, StorageError, StudyGoneError
from search.store.database import Database
from search.store.opening import forbid_writing, open_database
from search.store.schema import SPEC
from search.training import repeat
from search.training.bundle import Bundle, read_bundle
from search.training.epoch import BundleError, StoppedError
from tests.search.blobs import blob_task
from tests.search.conftest import copy_untested

# What `finalise` calls once the evaluation is on record, in this order.
STEPS = (
    ("search.final.scoring", "load_test"),
    ("search.final.final", "complete_result"),
    ("search.final.folder", "write_bundle"),
    ("search.final.folder", "write_pictures"),
    ("search.final.folder", "final_page"),
    ("search.final.folder", "write_atomically"),
    ("search.final.folder", "lead_to_first"),
)


pytestmark = pytest.mark.usefixtures("plainly")


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be trained."""
    monkeypatch.setattr(final, "train_all", lambda *_, **__: pytest.fail("trained"))


def test_command_and_function_do_the_same(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = len(load_study("digits").results)
    ours = finalise("digits", seeds=2)
    assert capfd.readouterr() == ("", "")
    made = place / "runs" / "digits" / f"final-{before + 1}"
    assert ours.folder.resolve() == made.resolve()
    assert json.loads((made / "metrics.json").read_text()) == ours.metrics
    weights = (made / "model.safetensors").read_bytes()

    assert finalize.main(["--study", "digits", "--seeds", "2"]) == 0
    printed = capfd.readouterr()
    assert "Written to runs/digits/final" in printed.out
    assert "these networks were tested on" in " ".join(printed.err.split())
    theirs = json.loads((made / "metrics.json").read_text())
    assert {**theirs, "seconds": 0} == {**ours.metrics, "seconds": 0}
    assert (made / "model.safetensors").read_bytes() == weights
    assert len(load_study("digits").results) == before + 1  # of the same weights
    bins_2B3 = ours.result.reliability
    assert bins_2B3 is not None
    images, _, right = bins_2B3.sum(axis=1)[1]
    assert images == 2 * ours.metrics["test"]["images"]
    assert right / images == pytest.approx(ours.metrics["test"]["accuracy"])
    assert len(reliability_diagram(ours.result).data) == 3
    Image.new("L", (60, 60), 255).save("mine.png")
    shares = [predict("mine.png", bundle=it).table() for it in (ours.bundle, made)]
    assert shares[0] == shares[1]


@pytest.mark.usefixtures("place")
def test_only_the_hardware_that_tested_is_known_of_trainings_on_ray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train_here(*jobs: Any, ray: str, **options: Any) -> Any:
        assert ray == "auto"
        return runs.train_all(*jobs, **options)

    alone = finalise("digits", seeds=1).metrics["hardware"]
    monkeypatch.setattr(final, "train_all", train_here)
    on_ray = finalise("digits", seeds=1, ray="auto", device="cpu").metrics["hardware"]
    assert on_ray == f"trained on Ray, tested on {alone}"


@pytest.mark.usefixtures("place", "untrained")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": 0}, "seeds must be a whole number from 1 to 10000, but got 0"),
        ({"arm": "x"}, "no arm 'x'"),
        ({"trial": 0, "arm": "x"}, "give one of trial, arm and candidates, but got"),
        ({"trial": 0, "candidates": 2}, "give one of trial, arm and candidates, but got"),
        ({"candidates": 1}, "candidates must be 2 or more to choose from, but got 1"),
        ({"candidates": 99}, "past half their epochs, but got --candidates 99; give --candidates"),
        ({"candidate_seeds": 4}, "candidate_seeds is for --candidates"),
        ({"candidates": 2, "candidate_seeds": 0}, "candidate_seeds must be a whole number"),
        ({"seeds": 10**8}, "seeds must be a whole number from 1 to 10000, but got 100000000"),
        ({"epochs": 0}, "epochs must be a whole number from 1 to 10000, but got 0"),
        ({"trial": "3"}, "trial must be a whole number from 0 up, but got '3'"),
        ({"ray": 5}, "ray must be an address, such as auto or local, but got 5"),
        ({"ray": "local", "gpus_per_worker": -1}, "gpus_per_worker must be a number from 0 up"),
        ({"ray": "local", "gpus_per_worker": 1.5}, "gpus_per_worker above 1 must be whole, but"),
        ({"export": "tflite"}, "export must be 'onnx' or None, but got 'tflite'"),
        ({"study": "no such"}, "not usable"),
        ({"device": "tpu"}, "unknown device"),
    ],
)
def test_bad_arguments_end_before_any_training(wrong: dict[str, Any], said: str) -> None:
    before = len(load_study("digits").results)
    with pytest.raises(ValueError, match=said) as refused:
        finalise(**{"study": "digits", **wrong})
    assert len(str(refused.value).splitlines()) == 1
    assert len(load_study("digits").results) == before


OF_TWO = """
import torch

class OfTwo(torch.nn.Linear):
    def forward(self, images):
        return super().forward(images.reshape(len(images), -1))

def build(image_shape, classes):
    return OfTwo(image_shape[1] * image_shape[2], classes)
"""


@pytest.mark.usefixtures("untrained")
def test_a_network_that_cannot_be_exported_is_noticed_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(OF_TWO)
    space = {"family": "net.py:build", "augmentation": "none"}
    tiny = {"dataset": "digits", "epochs": 1, "limit": 40, "trials": 1}
    run_study(study="own", space=space, workers=1, progress=False, **tiny)
    with pytest.raises(BundleError, match=r"cannot be converted .*: x\.shape\[0\], not len\(x\)$"):
        finalise("own", export="onnx")


@pytest.mark.usefixtures("place", "untrained")
def test_what_cannot_be_written_is_noticed_before_any_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(**_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    def opened(*arguments: Any, **options: Any) -> Database:
        forbid_writing(db := open_database(*arguments, **options))
        return db

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", full)
        with pytest.raises(BundleError, match=r"\(No space left on device\); free some space"):
            finalise("digits")
    monkeypatch.setattr(final, "open_database", opened)
    with pytest.raises(StorageError, match="it cannot be written"):
        finalise("digits")


@pytest.mark.usefixtures("untested")
@pytest.mark.parametrize(("gone", "epochs"), [("study", 3), ("folder", 3), ("folder", 1)])
def test_a_study_or_folder_that_is_gone_ends_it_unrecorded(
    monkeypatch: pytest.MonkeyPatch, gone: str, epochs: int
) -> None:
    """After the first epoch; if that is the only one, after its score."""
    saved, real, last = list[Path](), repeat.save_checkpoint, 1 if epochs > 1 else 2

    def vanish(path: Path, state: dict[str, Any]) -> None:
        real(path, state)
        saved.append(path)
        if len(saved) == last and gone == "folder":
            Path("runs/digits").rename("away")
        elif len(saved) == last:
            with closing(open_database("sqlite:///studies.db")) as db:
                optuna.delete_study(study_name="digits", storage=db.optuna)

    monkeypatch.setattr(repeat, "save_checkpoint", vanish)
    said = "was removed or renamed" if gone == "folder" else "was deleted while this ran"
    with pytest.raises(FolderGoneError if gone == "folder" else StudyGoneError, match=said):
        finalise("digits", seeds=1, epochs=epochs, device="cpu")
    assert len(saved) == last
    assert Path("runs/digits").exists() == (gone == "study")
    with closing(sqlite3.connect("studies.db")) as connection:
        assert connection.execute("SELECT count(*) FROM results").fetchone() == (0,)


@pytest.mark.usefixtures("place")
def test_stopped_it_leaves_the_test_set_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the request comes when the last epoch is over."""
    before = len(load_study("digits").results)
    late, train = threading.Event(), runs.train_in_turn

    def trained(*arguments: Any, **options: Any) -> Any:
        run = train(*arguments, **options)
        late.set()
        return run

    monkeypatch.setattr(runs, "train_in_turn", trained)
    with pytest.raises(StoppedError):
        finalise("digits", seeds=1, stop=late)
    assert len(load_study("digits").results) == before
    assert finalise("digits", seeds=1).metrics["test"]["seeds"] == 1


# Processes that share one start, because loading libraries takes longer than the rest. Each dies
# before or after the N-th call of a function, and prints the calls' paths and states.
KILLED = """
import importlib, json, os, signal, sys

import torch._dynamo
from search.dashboard import content
from search.final import final, folder, runs
from search.pages import final_page

runs.default_workers, content.write_content = lambda _: 1, lambda *_: None
folder.final_pictures = final_page.final_pictures = lambda _: {}

def die(place, module, step, when, number, options):
    os.chdir(place)
    owner, calls = importlib.import_module(module), []
    real = getattr(owner, step)

    def fatal(*arguments, **named):
        calls.append(arguments)
        last = len(calls) == number
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if step == "save_checkpoint":
            print(arguments[0].name, len(arguments[1]["curve"]), flush=True)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, step, fatal)
    final.finalise("digits", **options)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            die(*json.loads(line))
        finally:
            os._exit(1)
    print(os.waitpid(child, 0)[1], flush=True)
"""
Die = Callable[..., list[str]]


@pytest.fixture(scope="module")
def die() -> Iterator[Die]:
    """`die(place, module, step, when, number, options)`: such a process in that folder. Returns
    what it printed."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", KILLED], **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def killed(place: Path, *moment: Any) -> list[str]:
            print(json.dumps([str(place), *moment]), file=process.stdin, flush=True)
            lines = list[str]()
            for line in process.stdout:
                if line.strip().isdigit():  # its status
                    assert int(line) == signal.SIGKILL, moment
                    return lines
                lines.append(line.strip())
            raise AssertionError("the process that starts the others has died")

        yield killed


@pytest.mark.faults
def test_killed_at_any_step_after_scoring(
    searched: Path,
    die: Die,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int, int], int],
) -> None:
    """One evaluation on record, and all files from it."""
    moments = [(step, when) for step in STEPS for when in ("before", "after")]
    few = [(STEPS[0], "before"), (STEPS[4], "after")]
    for index, (step, when) in enumerate(moments if times(0, 1) else few):
        place = copy_untested(searched, tmp_path / str(index))
        die(place, *step, when, 1, {"seeds": 1})
        monkeypatch.chdir(place)
        [interrupted] = load_study("digits").results

        again = finalise("digits", seeds=1)
        [row] = load_study("digits").results
        assert row.result_id == interrupted.result_id, (step, when)
        assert row.opened_at == interrupted.opened_at
        assert interrupted.figures in (None, row.figures)
        assert row.figures is not None
        stored = json.loads((again.folder / "metrics.json").read_text())
        assert stored["test"] == {name: row.figures[name] for name in stored["test"]}
        assert stored["confusion"] == row.figures["confusion"]
        assert read_bundle(Path("runs/digits/final")).study == "digits"
        assert (again.folder / "report.html").exists()


@pytest.mark.usefixtures("untested")
def test_the_recorded_metrics_are_those_that_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever scoring the same weights again gives, perhaps on another machine."""
    first = finalise("digits", seeds=1)
    with monkeypatch.context() as patch:
        patch.setattr("search.final.scoring.score", lambda *_: first.result.runs[0].training)
        patch.setattr("search.final.choose.temperature_of", lambda _: 3.0)  # of other fresh seeds
        again = finalise("digits", seeds=1)
    assert again.metrics["test"] == first.metrics["test"]
    assert again.bundle.temperature == again.metrics["temperature"] == first.metrics["temperature"]
    assert again.result.runs[0].test == first.result.runs[0].test


@pytest.mark.usefixtures("untested")
def test_a_repeat_says_that_it_completes_the_evaluation_that_was_killed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And does not warn of choosing among evaluations, because there is only one."""
    with monkeypatch.context() as patch:
        patch.setattr(final, "test", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            finalise("digits", seeds=1, device="cpu")
    [begun] = load_study("digits").results
    capfd.readouterr()
    finalise("digits", seeds=1, device="cpu", progress=True)
    told = " ".join(capfd.readouterr().err.split())
    assert f"this completes the test evaluation begun on {in_utc(begun.opened_at)}." in told
    assert "evaluated once before" not in told
    assert len(load_study("digits").results) == 1
    finalise("digits", seeds=1, epochs=1, device="cpu", progress=True)
    assert "evaluated once before" in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize("first", [0, 2])
def test_the_image_that_is_looked_at_is_of_the_first_class_that_has_one(
    first: int, bundle: Bundle
) -> None:
    task = blob_task(40, 10, side=28)
    later = (task.training.labels_N >= first).nonzero().flatten()
    task = replace(task, training=task.training.select(later))
    features = look_inside(bundle, task)["features"]
    index = task.training.labels_N.tolist().index(first)
    assert features.what == f"training image {index}: {'abcd'[first]}"
    assert (features.image_CHW == task.training.images_NCHW[index].numpy()).all()


CANDIDATES: dict[str, Any] = {"seeds": 1, "candidates": 2, "epochs": 3, "device": "cpu"}


def test_candidates_are_trained_once_even_if_it_is_killed(
    untested: Path, die: Die, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with more epochs than the study's, which is an evaluation of its own."""
    plain = finalise("digits", seeds=1)
    kept = {*untested.rglob("*.pt")}  # of a trial that may resume
    saved = die(untested, "search.training.repeat", "save_checkpoint", "after", 6, CANDIDATES)
    stop, real = threading.Event(), repeat.save_checkpoint

    def counted(path: Path, state: dict[str, Any]) -> None:
        real(path, state)
        saved.append(f"{path.name} {len(state['curve'])}")
        if re.fullmatch(r"final-[0-9a-f]{8}-0\.pt 1", saved[-1]):
            stop.set()

    monkeypatch.setattr(repeat, "save_checkpoint", counted)
    with pytest.raises(StoppedError):
        finalise("digits", **CANDIDATES, stop=stop)
    assert len(load_study("digits").results) == 1
    finalise("digits", **CANDIDATES)
    assert len(load_study("digits").results) == 2
    # Two candidates with two seeds, and the final run: three epochs each, and the score.
    assert len(saved) == len({*saved}) + 5 == 5 * 4
    made = {it.split()[0] for it in saved}
    assert {it.name for it in {*untested.rglob("*.pt")} - kept} == made

    metrics = json.loads(Path("runs/digits/final-2/metrics.json").read_text())
    first, second = metrics["candidates"]["trials"]
    assert first["mean"] < second["mean"]
    assert metrics["trial"] == first["trial"]
    assert len(first["values"]) == 2
    assert metrics["epochs"] == first["epochs"] == 3 > plain.metrics["epochs"]
    assert metrics["chosen"].startswith(f"Trial {first['trial']} has the lowest mean")
    assert "Trained for 3 epochs" in metrics["chosen"]
    page = Path("runs/digits/final-2/report.html").read_text()
    assert "of the candidates, the winner first" in page
    assert "--candidates 2 --candidate-seeds 2 --epochs 3" in page
    # The same weights again: their page still says how they were chosen.
    again = finalise("digits", seeds=1, trial=first["trial"], epochs=3, device="cpu").metrics
    assert {**again, "seconds": 0} == {**metrics, "seconds": 0}
    assert len(saved) == 5 * 4  # and nothing is trained again

    # A study may say itself how much longer its winner is trained.
    study = optuna.load_study(study_name="digits", storage="sqlite:///studies.db")
    study.set_user_attr(SPEC, {**study.user_attrs[SPEC], "final_stretch": 1.5})
    named = {"seeds": 1, "trial": first["trial"], "device": "cpu"}
    by_study = finalise("digits", **named).metrics
    assert {**by_study, "seconds": 0} == {**metrics, "seconds": 0}
    assert finalise("digits", **named, epochs=2).metrics["epochs"] == 2
