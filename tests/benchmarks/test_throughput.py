"""The whole command on a few digits, and every kind of contender in processes of its own."""

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch

from benchmarks import throughput
from benchmarks.contenders import (
    Contender,
    OurRunner,
    advance_in_turn,
)
from benchmarks.crew import ContenderError, Crew
from benchmarks.workload import NETWORKS, Job, recipe
from search.training.task import Task
from search.training.train import train

OURS = Contender(name="ours", title="ours", style="ours", processes=2, threads=1)
CPU = torch.device("cpu")


def job(network: str = "small", limit: int = 256) -> Job:
    return Job(
        network=network,
        augmented=True,
        device="cpu",
        dataset="digits",
        data_dir=Path("unused"),
        limit=limit,
    )


def test_the_command_writes_and_shows_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [
        Contender(name="ours_alone", title="alone", style="ours"),
        OURS,
        Contender(name="dataloader_2", title="DataLoader", style="dataloader", loaders=2),
        Contender(name="ray_dataloader", title="Ray", style="ray"),
    ]
    monkeypatch.setattr(throughput, "contenders", lambda _: chosen)
    monkeypatch.setattr(throughput, "ray_version", lambda: None)
    monkeypatch.setattr(throughput, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(throughput, "COLUMNS", throughput.COLUMNS[:1])
    file = tmp_path / "results" / "throughput.json"
    arguments = ["--dataset", "digits", "--limit", "256", "--rounds", "2", "--device", "cpu"]
    assert throughput.main([*arguments, "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    first = result["columns"]["small_augmented"]
    assert result["ratio_vs_dataloader"] == first["ratios"]["vs_dataloader"]["median"] > 0
    assert set(first["images_per_second"]) == {"ours_alone", "ours", "dataloader_2"}
    assert len(first["images_per_second"]["ours"]["rounds"]) == 2
    assert first["epoch_trials_per_hour"]["dataloader_2"]["min"] > 0
    assert result["data"]["training_images"] == 256
    assert {"hardware", "cores", "versions", "command", "commit"} <= set(result)
    assert "Ray" in result["skipped"][0]
    shown = capsys.readouterr().out
    assert "DataLoader" in shown
    assert "vs_dataloader" in shown


def test_a_contender_that_fails_says_which_and_why() -> None:
    broken = Contender(name="dataloader_9", title="", style="dataloader")
    with (
        closing(Crew(broken, 0.0)) as crew,
        pytest.raises(ContenderError, match=r"dataloader_9(.|\n)*nine"),
    ):
        crew.time(job(network="nine"))


def test_packed_trials_train_as_they_do_alone(task: Task) -> None:
    how = recipe(augmented=True)
    alone = [next(train(NETWORKS["small"], how, task, seed=seed)) for seed in range(3)]
    trainings = [train(NETWORKS["small"], how, task, seed=seed) for seed in range(3)]
    packed = advance_in_turn([training.slices() for training in trainings])
    assert [epoch.train_loss for epoch in packed] == [epoch.train_loss for epoch in alone]
    assert OurRunner(job(), CPU, packed=3).train_epoch() == 3 * 256
