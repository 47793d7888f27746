"""Speeds and ratios of moments and rounds written by hand."""

from benchmarks.contenders import Contender
from benchmarks.crew import Timing
from benchmarks.speed import Speed, ratios, speed


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


def test_of_ours_one_is_chosen_for_all_rounds() -> None:
    """Not the luckiest of each round."""
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
