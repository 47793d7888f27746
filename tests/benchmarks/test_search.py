"""Whole studies of a few trials, and comparisons of made-up ones."""

import argparse
import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import search, study_runs
from benchmarks.study_runs import StudyRun, write_study
from search.spec.study_file import find_study_file, read_study_file


@pytest.mark.usefixtures("unseen")
def test_ours_and_optunas_whole_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_here(command: list[str], *, cwd: Path, **_: object) -> SimpleNamespace:
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            return SimpleNamespace(returncode=import_module(command[2]).main(command[3:]))

    # One process, for others take seconds to start.
    monkeypatch.setattr(study_runs, "subprocess", SimpleNamespace(run=run_here))
    monkeypatch.setattr(search, "faster_loaders", lambda *_: 0)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    file = tmp_path / "search.json"
    arguments = ["--trials", "2", "--epochs", "1", "--limit", "300", "--dataset", "digits"]
    arguments += ["--contenders", "ours", "optuna", "--device", "cpu", "--json", str(file)]
    assert search.main(arguments) == 0
    result = json.loads(file.read_text())
    assert set(result["contenders"]) == {"ours", "optuna"}
    assert result["contenders"]["optuna"]["epochs"]["median"] == 2
    assert 1 <= result["contenders"]["ours"]["epochs"]["median"] <= 2  # one is left paused
    assert set(result["against"]) == {"ours_vs_optuna"}
    assert all(of["to_equal_loss"]["median"] > 0 for of in result["against"].values())
    assert {"hardware", "cores", "versions", "command", "commit", "scale"} <= set(result)
    assert "study.optimize" in capsys.readouterr().out


def test_times_to_an_equal_loss() -> None:
    ours = StudyRun(seconds=20, losses=((5, 0.9), (8, 0.4), (15, 0.2)))
    ray = StudyRun(seconds=60, losses=((10, 0.8), (48, 0.4)))
    found = search.compare([{"ours": ours, "ray": ray}, {"ours": ray, "ray": ours}])
    against = found["against"]["ours_vs_ray"]
    assert against["whole_study"]["rounds"] == [3, 1 / 3]
    assert against["to_equal_loss"]["rounds"] == [6, 1 / 6]
    assert against["to_the_peers_best"]["rounds"] == [60 / 8, None]
    assert against["to_the_peers_best"]["median"] == 60 / 8
    assert against["to_the_peers_best"]["reached"] == 1


@pytest.mark.parametrize(
    ("limit", "part", "averaging"),
    [(6000, {"limit": 6000, "validation_count": 2000}, True), (50_000, {}, False)],
    ids=["a part", "all images"],
)
def test_the_study_is_the_default_one_at_another_scale(
    limit: int, part: dict[str, int], averaging: bool, tmp_path: Path
) -> None:
    file = tmp_path / "study.toml"
    args = argparse.Namespace(trials=7, epochs=3, limit=limit, dataset='folder:/a "b"')
    write_study(file, args, seed=5, averaging=averaging)
    expected = read_study_file(find_study_file("default"))
    if not averaging:
        expected["space"]["weight_averaging"] = 0.0
    assert read_study_file(file) == {
        "dataset": 'folder:/a "b"',
        "trials": 7,
        "epochs": 3,
        "seed": 5,
        "pruner": expected["pruner"],
        "objective": "validation_loss",
        "space": expected["space"],
        **part,
    }
