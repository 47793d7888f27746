"""What a search could gain over its start, on a made-up record."""

from pathlib import Path

import pytest

from benchmarks import headroom
from benchmarks.replay_simulation import CALIBRATED, HeldOutScore, RecordedRun
from tests.benchmarks.test_replay import record


def test_the_value_of_a_training_is_its_lowest_after_a_whole_epoch() -> None:
    run = RecordedRun(
        params={},
        epochs=[0, 1, 2],
        seconds=[1.0, 1.0, 1.0],
        seen={CALIBRATED: [0.1, 0.3, 0.4]},
        hidden=[HeldOutScore(0.1, 0.2)] * 3,
    )
    assert headroom.value(run) == 0.3


def test_how_often_a_margin_is_reached() -> None:
    found = [(0.20, 0.005), (0.22, 0.013), (0.24, 0.003), (0.26, -0.001)]
    name, started, gained, *shares = headroom.row(Path("mnist-8000.jsonl.gz"), found)
    assert name == "mnist-8000"
    assert started == "0.2300 (0.2150 to 0.2450)"
    assert gained == "0.0040 (0.0020 to 0.0070)"
    assert shares == ["75%", "50%", "25%"]


@pytest.mark.usefixtures("few_draws")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(file := tmp_path / "fashion_mnist-8000.jsonl.gz")
    words = ["--cache", str(tmp_path), "--seeds", "2", "--others", "30"]
    assert headroom.main([str(file), *words]) == 0
    assert "fashion_mnist-8000" in capsys.readouterr().out
    few, many = (headroom.gains(file, tmp_path, seeds=1, others=count) for count in (1, 300))
    assert few[0][0] == many[0][0]  # the start does not depend on the others
    assert few[0][1] < many[0][1]
