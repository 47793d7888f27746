"""A test evaluation that is repeated: what is on record stands, and is of these test images."""

from __future__ import annotations

import sqlite3
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.errors import DataError
from search.final import scoring
from search.final.choose import as_recorded, choose_trial
from search.final.final import finalise
from search.running.results import load_study
from search.running.study import run_study
from search.store.records import ResultRow
from tests.search.blobs import blobs
from tests.search.made_up_views import study_view, trial_view

LOAD = """
import numpy as np

def load(train):
    part = np.load("train.npz" if train else "test.npz")
    return part["images"], part["labels"], "abcd"
"""


pytestmark = pytest.mark.usefixtures("plainly")


def write(part: str, count: int, seed: int, *, backwards: bool = False) -> None:
    made, step = blobs(count, seed), -1 if backwards else 1
    if part == "test":
        made.images_NCHW[:3] = blobs(200, 0).images_NCHW[7:10]  # copies
    images, labels = made.images_NCHW[:, 0].numpy()[::step], made.labels_N.numpy()[::step]
    np.savez(f"{part}.npz", images=images, labels=labels)


def test_results_stay_those_of_the_images_that_were_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function's file is in the study's fingerprint; what the function reads is not."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(LOAD)
    write("train", 200, 0)
    write("test", 40, 1)
    space = {"depth": 1, "width": 4, "hidden": [16], "learning_rate": {"low": 1e-3, "high": 1e-2}}
    options = {"study": "s", "trials": 2, "epochs": 1, "workers": 1, "progress": False}
    run_study(dataset="mine.py:load", space=space, **options)
    first = finalise("s", seeds=1)
    assert first.metrics["test"]["shared_with_training"] == 3
    file = first.folder / "metrics.json"
    written = file.read_bytes()
    for count, seed in ((80, 1), (40, 2)):
        write("test", count, seed)
        with pytest.raises(DataError, match=rf"load \({count}\) are not those .* before \(40\);"):
            finalise("s", seeds=1)
        assert file.read_bytes() == written
    write("test", 40, 1, backwards=True)
    assert finalise("s", seeds=1).metrics["test"] == first.metrics["test"]
    assert len(load_study("s").results) == 1

    with sqlite3.connect("studies.db") as connection:  # as earlier versions recorded it
        connection.execute("UPDATE results SET figures = json_remove(figures, '$.digest')")
    finalise("s", seeds=1)
    written = file.read_bytes()
    write("test", 80, 1)
    with pytest.raises(DataError, match=r"load \(80\) are not those .* before \(40\);"):
        finalise("s", seeds=1)
    assert file.read_bytes() == written


@pytest.mark.usefixtures("untested")
def test_how_the_trial_was_chosen_stays_as_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    """Whether candidates win later, or the trial is named by hand."""
    best = finalise("digits", seeds=1)
    named = finalise("digits", seeds=1, trial=best.metrics["trial"])
    assert best.metrics["chosen"] == "the study's best"
    assert {**named.metrics, "seconds": 0} == {**best.metrics, "seconds": 0}

    far = [trial.number for trial in load_study("digits").trained_far[:2]]
    longer = {number: finalise("digits", seeds=1, trial=number, epochs=3) for number in far}
    again = finalise("digits", seeds=1, candidates=2, candidate_seeds=1, epochs=3, progress=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "recorded results are used, and no test evaluation is added. This choice among" in said
    first = longer[again.metrics["trial"]]
    assert {**again.metrics, "seconds": 0} == {**first.metrics, "seconds": 0}
    assert again.bundle.temperature == first.bundle.temperature
    assert "fresh seed" not in (again.folder / "report.html").read_text()


@pytest.mark.usefixtures("untested")
def test_logits_of_only_the_first_seed_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made, alive, plain = list[weakref.ref[torch.Tensor]](), [], scoring.logits

    def watched(*arguments: Any) -> torch.Tensor:
        alive.append(sum(one() is not None for one in made))
        found_NK = plain(*arguments)
        made.append(weakref.ref(found_NK))
        return found_NK

    monkeypatch.setattr(scoring, "logits", watched)
    finalise("digits", seeds=4, epochs=1)
    assert alive == [0, 1, 2, 2]  # the first's and the last one's


def test_repeats_of_an_arm_share_their_evaluation(result_row: ResultRow) -> None:
    """They have the same configuration, so their final networks have the same weights."""
    trials = [replace(trial_view(n, [0.3 + n]), arm="a", repeat=n) for n in range(2)]
    view = study_view(trials)
    kept = {"chosen": "the study's best", "calibration": {"temperature": 1.5}}
    row = replace(result_row, trial_number=0, figures={**(result_row.figures or {}), **kept})
    decision, candidates = as_recorded(view, choose_trial(view, 1), row)
    assert (decision.trial, decision.why, decision.temperature) == (trials[0], "", 1.5)
    assert candidates == ()
    older, _ = as_recorded(view, choose_trial(view, 1), result_row)  # of a trial that is gone
    assert older == choose_trial(view, 1)
