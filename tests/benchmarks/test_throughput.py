"""The whole command on a few digits, contenders in processes of their own, and their speeds."""

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch

from benchmarks import record, throughput
from benchmarks.contender_workers import (
    ContenderError,
    ContenderWorkers,
    Speed,
    Timing,
    ratios,
    speed,
)
from benchmarks.contenders import Contender, OurRunner, advance_in_turn
from benchmarks.workload import NETWORKS, Workload, recipe
from search.training.task import Task
from search.training.train import train

OURS = Contender(name="ours", title="ours", style="ours", processes=2, threads=1)
CPU = torch.device("cpu")


def job(dataset: str = "digits") -> Workload:
    return Workload(
        network="small",
        augmented=True,
        device="cpu",
        dataset=dataset,
        data_dir=Path("unused"),
        limit=256,
    )


@pytest.mark.usefixtures("forked")
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
    monkeypatch.setattr(record, "ray_version", lambda: None)
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


@pytest.mark.usefixtures("forked")
def test_a_contender_that_fails_says_which_and_why() -> None:
    broken = Contender(name="dataloader_9", title="", style="dataloader")
    with (
        closing(ContenderWorkers(broken, 0.0)) as pool,
        pytest.raises(ContenderError, match=r"dataloader_9(.|\n)*nine"),
    ):
        pool.time(job("nine"))


def test_packed_trials_train_as_they_do_alone(task: Task) -> None:
    how = recipe(augmented=True)
    alone = [next(train(NETWORKS["small"], how, task, seed=seed)) for seed in range(3)]
    trainings = [train(NETWORKS["small"], how, task, seed=seed) for seed in range(3)]
    packed = advance_in_turn([training.slices() for training in trainings])
    assert [epoch.train_loss for epoch in packed] == [epoch.train_loss for epoch in alone]
    assert OurRunner(job(), CPU, packed=3).train_epoch() == 3 * 256


def timing(started: float, trained: float, validated: float, *, epochs: int = 1) -> Timing:
    return Timing(
        started=started,
        trained=trained,
        validated=validated,
        images=1000 * epochs,
        epochs=epochs,
        peak_bytes=round(trained),
    )


def test_processes_side_by_side_are_timed_from_the_first_start_to_the_last_end() -> None:
    found = speed([timing(10, 18, 19), timing(10.5, 20, 22)], trials=2)
    assert found.images_per_second == 2000 / 10
    assert found.epoch_trials_per_hour == 3600 * 2 / (10 + 2)
    assert found.peak_bytes == 20


def contender(name: str, **fields: object) -> Contender:
    style = "ours" if name.startswith("ours") else name.partition("_")[0]
    return Contender(name=name, title=name, style=style, **fields)  # type: ignore[arg-type]


CONTENDERS = [
    contender("ours_alone"),
    contender("ours", processes=2),
    contender("dataloader_0"),
    contender("dataloader_2", loaders=2),
    contender("dataloader_parallel", processes=2),
    contender("ray_dataloader", processes=2),
]


def rounds(**images: list[float]) -> dict[str, list[Speed]]:
    return {
        name: [Speed(images_per_second=x, epoch_trials_per_hour=2 * x) for x in values]
        for name, values in images.items()
    }


def test_ratios_are_taken_round_by_round_against_the_better_of_the_variants() -> None:
    found = ratios(
        rounds(
            ours_alone=[30, 30, 30],
            ours=[40, 60, 50],
            dataloader_0=[10, 5, 10],
            dataloader_2=[8, 20, 8],
            dataloader_parallel=[20, 20, 25],
        ),
        CONTENDERS,
    )
    assert found["vs_dataloader"] == {
        "median": 4.0,
        "min": 3.0,
        "max": 5.0,
        "rounds": [4.0, 3.0, 5.0],
    }
    assert found["alone_vs_dataloader"]["rounds"] == [3.0, 1.5, 3.0]
    assert found["vs_dataloader_parallel"]["rounds"] == [2.0, 3.0, 2.0]
    assert found["epoch_trials_vs_dataloader"]["rounds"] == [4.0, 3.0, 5.0]
    assert not [name for name in found if "ray" in name]


def test_one_of_our_variants_is_chosen_for_all_rounds() -> None:
    """Not the luckiest one in each round."""
    packed = [contender("ours_packed_4", packed=4), contender("ours_packed_16", packed=16)]
    found = ratios(
        rounds(
            ours_alone=[1, 1, 1],
            ours_packed_4=[90, 20, 20],
            ours_packed_16=[30, 30, 30],
            dataloader_0=[1, 1, 1],
            ray_dataloader=[3, 3, 3],
        ),
        [CONTENDERS[0], *packed, *CONTENDERS[2:]],
    )
    assert found["vs_dataloader"]["rounds"] == [30, 30, 30]
    assert found["vs_ray"]["median"] == 10
