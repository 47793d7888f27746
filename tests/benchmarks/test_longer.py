"""What a longer final training gains: on validation images, without reading the test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import longer
from search.final.final import finalise
from search.running.results import load_study
from search.training import repeat
from tests.search.conftest import search_in


@pytest.mark.usefixtures("plainly")
def test_the_best_trials_are_trained_as_they_are_and_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"depth": 1, "width": {"low": 4, "high": 12}, "hidden": [[16], [32]]}
    monkeypatch.chdir(search_in(tmp_path, space=space))
    options = ["--study", "digits", "--best", "2", "--times", "3", "--json", "longer.json"]
    assert longer.main([*options, "--device", "cpu"]) == 0
    rows = json.loads(Path("longer.json").read_text())["rows"]
    best = load_study("digits").trained_far[:2]
    assert [row["trial"] for row in rows] == [one.number for one in best] * 2
    assert [row["epochs"] for row in rows[2:]] == [6, 6]
    own, more = (sum(row["validation_loss"][0] for row in half) for half in (rows[:2], rows[2:]))
    assert own > more  # two epochs are too few for digits
    assert (
        f"6 epochs lower the validation loss by {(own - more) / 2:.4f}" in capsys.readouterr().out
    )
    assert not load_study("digits").results

    # Nothing is trained twice, nor again by a choice among the same candidates.
    saved, real = [], repeat.save_checkpoint

    def noted(path: Path, state: dict[str, Any]) -> None:
        saved.append(path.name.partition("-")[0])
        real(path, state)

    monkeypatch.setattr(repeat, "save_checkpoint", noted)
    assert longer.main([*options, "--device", "cpu"]) == 0
    finalise("digits", candidates=2, candidate_seeds=1, epochs=6, seeds=1, device="cpu")
    assert {*saved} == {"final"}
