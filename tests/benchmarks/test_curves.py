import gzip
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks import curves
from benchmarks import record as shared

ARGUMENTS = ["--dataset", "digits", "--epochs", "2", "--limit", "600", "--held-out", "100"]


def run(file: Path, *words: str, workers: int = 1) -> list[dict[str, Any]]:
    assert (
        curves.main([str(file), *ARGUMENTS, "--workers", str(workers), "--device", "cpu", *words])
        == 0
    )
    return list(curves.read(file))


def test_recording_resumes_and_repairs_an_unfinished_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process takes seconds to start.
    monkeypatch.setattr(shared, "ProcessPoolExecutor", lambda **_: ThreadPoolExecutor(1))
    file = tmp_path / "digits.jsonl.gz"
    first = run(file, "--configs", "2")
    assert [one["number"] for one in first] == [0, 1]
    for one in first:
        reports = one["reports"]
        assert [report["epoch"] for report in reports] == [0, 1, 2]
        for report in reports:
            assert math.isfinite(report["clean_train_loss"])
            # on the images it was fitted to, the best temperature is no worse than none
            assert report["calibrated_validation_loss"] <= report["validation_loss"] + 1e-4
            assert 0 <= report["holdout_error"] <= 1

    file.write_bytes(file.read_bytes()[:-7])  # killed while writing a line
    second = run(file, "--configs", "2", "--seeds", "2", workers=2)
    assert sorted((one["number"], one["seed"]) for one in second) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    again = next(one for one in second if (one["number"], one["seed"]) == (0, 0))
    assert again["params"] == first[0]["params"]
    losses = {(one["number"], one["seed"]): one["reports"][-1]["validation_loss"] for one in second}
    assert losses[0, 0] != losses[0, 1]
    assert losses[0, 0] == pytest.approx(first[0]["reports"][-1]["validation_loss"], rel=1e-4)
    with gzip.open(file, "rt") as lines:
        assert len(lines.readlines()) == 4

    with pytest.raises(SystemExit, match="holds runs with epochs 2, but got 3"):
        run(file, "--configs", "1", "--epochs", "3")


def test_records_name_no_folder_of_the_machine_they_were_made_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["curves", str(tmp_path / "x.jsonl.gz"), "--seeds", "2"])
    assert (
        shared.environment("curves")["command"]
        == "python -m benchmarks.curves x.jsonl.gz --seeds 2"
    )
    files = [*Path(curves.__file__).parent.glob("results/**/*.jsonl.gz")]
    assert len(files) > 5
    for file in files:
        assert not any("/" in one["made_on"]["command"] for one in curves.read(file)), file
