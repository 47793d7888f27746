"""A study that starts from an earlier one, of another database that is gone afterwards."""

from pathlib import Path
from typing import Any

import pytest

from search.analysis.wording import warm_start_in_words
from search.running.study import run_study
from search.spec.domains import SpecError
from search.store import StorageError
from search.study import main
from search.terminal.status import quick_status

SPACE = {
    "depth": {"low": 1, "high": 2},
    "width": {"low": 4, "high": 12},
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "hidden": [[], [16]],
}


def test_a_warm_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = (f"sqlite:///{tmp_path / name}.db" for name in ("old", "new"))
    usual: dict[str, Any] = {
        "dataset": "digits",
        "limit": 300,
        "epochs": 2,
        "seed": 0,
        "runs_dir": tmp_path / "runs",
        "device": "cpu",
    }
    first = run_study(storage=old, study="old", space=SPACE, trials=4, progress=False, **usual)
    narrow = {**SPACE, "width": {"low": 8, "high": 12}, "hidden": [16]}
    warm = {"study": "new", "storage": new, "warm_start": f"{old}#old", "space": narrow}
    view = run_study(trials=3, **warm, **usual)
    (kept,) = view.earlier
    told = warm_start_in_words(kept)
    assert told in capsys.readouterr().err
    assert "study sqlite:///" in told
    assert "not searched here: hidden" in told
    assert f"{len(kept.configurations)} configurations" in told
    assert first.best is not None
    assert first.best.best is not None
    assert kept.best == pytest.approx(first.best.best.value)
    assert len(view.trials) == 3
    assert min(params["width"] for params, _ in kept.configurations) >= 8
    assert kept.clipped == sum(trial.params["width"] < 8 for trial in first.trials)

    (tmp_path / "old.db").unlink()
    again = run_study(trials=4, progress=False, **warm, **usual)  # the same call resumes
    assert again.earlier == view.earlier
    assert again.finished == 4
    assert "Warm start from study" in (quick_status(new, "new") or "")
    with pytest.raises(SpecError, match="was made with a warm start from sqlite"):
        run_study(**{**warm, "warm_start": "other"}, **usual)
    with pytest.raises(StorageError, match="no such file"):
        run_study(**{**warm, "study": "third"}, **usual)
    with pytest.raises(StorageError, match="no study 'nosuch' in"):
        run_study(**{**warm, "study": "third", "warm_start": ["nosuch"]}, **usual)
    dropout = {"family": "mlp", "dropout": {"low": 0.0, "high": 0.5}}
    with pytest.raises(SpecError, match="has too few trials for a warm start: 0, 3 are needed"):
        run_study(**{**warm, "study": "third", "warm_start": "new", "space": dropout}, **usual)
    with pytest.raises(SpecError, match="no use for sampler 'random'"):
        run_study("c_random_adam", **{**warm, "study": "third", "warm_start": "new"}, **usual)
    arguments = ["--config", "a4_dropout", "--dataset", "digits", "--warm-start", "new"]
    with pytest.raises(SpecError, match="this study compares arms"):
        main([*arguments, "--study", "fourth", "--storage", new])
