from __future__ import annotations

import dataclasses
import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.dashboard import trial_artifacts
from search.dashboard.trial_artifacts import TrialArtifacts
from search.figures.trial import trial_pictures
from search.store.pictures import CONFUSION, announced, announcement, pack_confusion
from search.store.views import StudyView

MakeTrial = Callable[..., Any]
MakeView = Callable[..., StudyView]
LONG = 60.0  # seconds: for all there is


@pytest.fixture
def view(make_view: MakeView, make_trial: MakeTrial) -> StudyView:
    """Three trials with both pictures, one with curves alone, one without any."""
    matrix = {CONFUSION: pack_confusion(np.diag([3, 4, 5, 6, 7]))}
    both = [
        dataclasses.replace(
            make_trial(number, [0.5, 0.4]),
            system_attributes={**matrix, **announcement(["curves", "confusion"])},
        )
        for number in range(3)
    ]
    pruned = dataclasses.replace(
        make_trial(3, [0.5], state="pruned"), system_attributes=announcement(["curves"])
    )
    return make_view([*both, pruned, make_trial(4, state="failed")])


def ids(view: StudyView) -> set[str]:
    return {i for t in view.trials for i in announced(t.system_attributes).values()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_that_is_announced_is_drawn_once(view: StudyView, tmp_path: Path) -> None:
    artifacts = TrialArtifacts(tmp_path / "artifacts")
    assert artifacts.write(view, LONG) == 7
    drawn = contents(tmp_path / "artifacts")
    assert set(drawn) == ids(view)
    for content in drawn.values():
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200
    assert artifacts.write(view, LONG) == 0


def test_another_process_draws_what_is_missing_and_nothing_else(
    view: StudyView, tmp_path: Path
) -> None:
    TrialArtifacts(tmp_path).write(view, LONG)
    whole = contents(tmp_path)
    gone, marked = sorted(whole)[:2]
    (tmp_path / gone).unlink()
    (tmp_path / marked).write_bytes(b"untouched")
    assert TrialArtifacts(tmp_path).write(view, LONG) == 1
    assert contents(tmp_path) == {**whole, marked: b"untouched"}  # the same picture, to the byte


def test_each_call_takes_a_bounded_time(view: StudyView, tmp_path: Path) -> None:
    artifacts = TrialArtifacts(tmp_path)
    assert [artifacts.write(view, 0.0) for _ in range(9)] == [1] * 7 + [0, 0]
    assert set(contents(tmp_path)) == ids(view)


def test_an_unwritable_folder_is_told_once_until_it_works_again(
    view: StudyView, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "artifacts"
    artifacts = TrialArtifacts(folder)
    for _ in range(2):
        folder.write_text("a file in its place")
        for _ in range(3):
            assert artifacts.write(view, LONG) == 0
        folder.unlink()
        assert artifacts.write(view, 0.0) == 1
        shutil.rmtree(folder)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 2
    assert str(folder) in told[0]
    assert "the study goes on" in told[0]


def test_one_that_cannot_be_drawn_holds_up_no_other(
    view: StudyView,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def draw(_view: StudyView, trial: Any, picture: str) -> bytes:
        if (trial.number, picture) == (1, "confusion"):
            raise ValueError("no such glyph")
        return b"png"

    monkeypatch.setattr(trial_artifacts, "draw", draw)
    artifacts = TrialArtifacts(tmp_path)
    assert artifacts.write(view, LONG) == 6
    assert artifacts.write(view, LONG) == 0
    assert [r.getMessage() for r in caplog.records] == [
        "cannot draw the confusion of trial 1: no such glyph"
    ]


def test_hostile_class_names_and_odd_trials_are_drawn(
    make_view: MakeView, make_trial: MakeTrial, hostile_names: tuple[str, ...]
) -> None:
    view = make_view(class_names=hostile_names[:24], data_title="$x$ <b>\n%")
    never_finite = make_trial(1, [float("nan"), float("inf")], early=float("nan"), state="failed")
    names, eye = view.dataset.class_names, np.eye(24, dtype=np.int64)
    assert len(trial_pictures(1, never_finite.reports, "$x$ <b>\n%", names, eye)) == 2
    many, none = tuple(map(str, range(100))), np.zeros((100, 100), dtype=np.int64)
    assert len(trial_pictures(2, make_trial(2, [0.5]).reports, "x", many, none)) == 2
