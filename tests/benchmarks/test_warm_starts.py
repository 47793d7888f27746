"""Warm starts replayed on made-up records."""

import json
from pathlib import Path

import pytest

from benchmarks import warm_starts
from benchmarks.replay_worlds import Pool, read_runs
from tests.benchmarks.test_replay import record


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_searches_with_and_without_a_warm_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Surrogates take seconds to fit.
    monkeypatch.setattr(warm_starts, "make_world", lambda file, *_: Pool(read_runs(file)))
    files = [tmp_path / f"{name}.jsonl.gz" for name in "ab"]
    for file in files:
        record(file)
    results = tmp_path / "r.json"
    words = [*map(str, files), "--cache", str(tmp_path), "--json", str(results)]
    words += ["--repeats", "4", "--trials", "12", "--sampler", "tpe"]
    assert warm_starts.main(words) == 0
    assert "a -> b, 4 seeds" in capsys.readouterr().out
    found = json.loads(results.read_text())["results"]
    assert found.keys() == {"a -> b", "b -> a"}
    for of_pair in found.values():
        assert of_pair.keys() == {"cold", "warm", "misled", "warm - cold", "misled - cold"}
        means = {kind: row[0][0] for kind, row in of_pair.items()}
        assert means["warm"] < means["cold"] < means["misled"]
