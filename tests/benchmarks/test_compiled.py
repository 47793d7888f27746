import pytest

from benchmarks.compiled import EpochSeconds, compare


def test_when_compiling_pays() -> None:
    # 30 s more once, 2 s less for each 5 000 images: 20 s less an epoch of 50 000.
    found = compare([(EpochSeconds(11.0, 10.0), EpochSeconds(39.0, 8.0))] * 2, images=5_000)
    assert found["speed_ratio"]["median"] == pytest.approx(1.25)
    assert found["compile_seconds"]["median"] == pytest.approx(30)
    assert found["epochs_to_gain"]["median"] == pytest.approx(1.5)


def test_where_it_never_pays() -> None:
    found = compare([(EpochSeconds(11.0, 10.0), EpochSeconds(39.0, 10.5))], images=5_000)
    assert found["epochs_to_gain"] is None
