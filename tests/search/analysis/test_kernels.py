"""The rules for kernels: planted ones are found, others are not."""

from __future__ import annotations

import numpy as np
import pytest

from search.analysis.kernels import inspect_kernels

RNG = np.random.default_rng(0)


def kernels(count: int = 12, channels: int = 1, side: int = 3) -> np.ndarray:
    return RNG.normal(size=(count, channels, side, side)).astype(np.float32)


def ranges(count: int = 12) -> np.ndarray:
    return RNG.uniform(1, 3, count).astype(np.float32)


def test_ordinary_kernels_are_not_marked() -> None:
    report = inspect_kernels(kernels(side=5), ranges(), 1000)
    assert report.marks == {}
    words = report.in_words()
    assert "Dead: none, near-uniform: none, near-duplicates: none." in words
    for rule in ("1000 training images", "less than 1 %", "below 0.2", "above 0.95"):
        assert rule in words


def test_planted_ones_are_found() -> None:
    weights, varied = kernels(channels=3), ranges()
    varied[4] = 0.0
    weights[7] = 0.5 + 0.01 * kernels(1, 3)[0]  # flat, but for a little
    weights[8] *= 1e-3  # next to nothing
    weights[9] = 2.5 * weights[2] + 0.05 * kernels(1, 3)[0]
    weights[10] = -weights[3]
    report = inspect_kernels(weights, varied, 100)
    assert report.dead == (4,)
    assert report.uniform == (7, 8)
    assert [(later, earlier) for later, earlier, _ in report.twins] == [(9, 2), (10, 3)]
    assert report.twins[1][2] == pytest.approx(-1)
    assert report.marks == {4: "dead", 7: "uniform", 8: "uniform", 9: "≈ 2", 10: "≈ −3"}
    assert "9 of 2 (" in report.in_words()


def test_dead_and_flat_ones_are_nobodys_twins() -> None:
    weights, varied = kernels(), ranges()
    weights[5] = weights[1]
    varied[1] = 0
    weights[2] = weights[3] = 0
    report = inspect_kernels(weights, varied, 100)
    assert report.dead == (1,)
    assert report.uniform == (2, 3)
    assert report.twins == ()


def test_kernels_of_one_pixel_are_not_uniform() -> None:
    assert inspect_kernels(kernels(channels=3, side=1), ranges(), 10).uniform == ()


def test_a_layer_that_is_all_dead() -> None:
    report = inspect_kernels(kernels(4), np.zeros(4, np.float32), 10)
    assert report.dead == (0, 1, 2, 3)
