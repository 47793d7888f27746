import json
from pathlib import Path

import pytest

from benchmarks import memory


@pytest.mark.usefixtures("forked")
def test_more_trials_take_more_memory_but_share_the_images(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    arguments = ["--packed", "1", "8", "--dataset", "digits", "--device", "cpu"]
    assert memory.main([*arguments, "--network", "typical", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    one, eight = result["bytes"]["1"], result["bytes"]["8"]
    assert one["images"] == eight["images"] == 1437 * 64 + 1437 * 8
    assert one["images"] < one["before_training"] < one["peak"] < eight["peak"]
    assert {"hardware", "versions", "command", "commit"} <= set(result)
