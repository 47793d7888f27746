import json
from pathlib import Path

import pytest

from benchmarks import ranking


def test_places_and_correlations_by_hand() -> None:
    """The weights' losses rank the three wrongly at first, their mean's correctly throughout."""
    curves = [
        {"weights": [3.0, 0.1], "mean": [1.0, 0.1]},
        {"weights": [2.0, 0.2], "mean": [2.0, 0.3]},
        {"weights": [1.0, 0.4], "mean": [3.0, 0.5]},
    ]
    found = ranking.compare(curves)
    assert found["weights"]["spearman"] == pytest.approx([-1, 1])
    assert found["mean"]["spearman"] == pytest.approx([1, 1])
    assert found["weights"]["places"] == [[3, 2, 1], [1, 2, 3]]
    assert found["mean"]["places"] == [[1, 2, 3], [1, 2, 3]]
    assert found["mean"]["median_loss"] == [2.0, 0.3]


def test_a_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ranking, "default_workers", lambda _: 1)  # others take seconds to start
    file = tmp_path / "ranking.json"
    arguments = ["--configs", "3", "--epochs", "2", "--limit", "1000", "--dataset", "digits"]
    assert ranking.main([*arguments, "--device", "cpu", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    for losses in result["curves"]:
        assert (
            len(losses["weights"]) == len(losses["mean"]) == 3
        )  # the partial-epoch validation, two epochs
        assert losses["weights"] != losses["mean"]
    assert "a third" in capsys.readouterr().out
