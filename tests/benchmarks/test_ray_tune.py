"""Ray Tune runs both trainers to the end; skipped if it is not installed."""

from pathlib import Path

import pytest

from benchmarks import ray_tune
from benchmarks.contenders import Contender
from benchmarks.ray_tune import EPOCHS, time_ray
from benchmarks.workload import Workload

pytest.importorskip("ray", reason="Ray Tune is not installed: pip install -e '.[bench]'")


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_tune_trains_and_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tune, "TRIALS_A_SLOT", 1)  # each takes seconds to start
    contender = Contender(name="ray_ours", title="", style="ray", threads=1, inner="ours")
    job = Workload(
        network="small",
        augmented=True,
        device="cpu",
        dataset="digits",
        data_dir=Path("unused"),
        limit=256,
    )
    found = time_ray(contender, job)
    assert found.epochs == EPOCHS
    assert found.images == 256 * found.epochs
    assert 0 < found.training_seconds < found.seconds
