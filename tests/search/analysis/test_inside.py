"""The rules for kernels, and which mistakes are shown: planted ones are found, others are not."""

from __future__ import annotations

import numpy as np
import pytest

from search.analysis.inside import collect_mistakes, inspect_kernels

RNG = np.random.default_rng(0)


def kernels(count: int = 12, channels: int = 1, side: int = 3) -> np.ndarray:
    return RNG.normal(size=(count, channels, side, side)).astype(np.float32)


def ranges(count: int = 12) -> np.ndarray:
    return RNG.uniform(1, 3, count).astype(np.float32)


def test_ordinary_kernels_are_not_marked() -> None:
    report = inspect_kernels(kernels(side=5), ranges(), 1000)
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
    assert inspect_kernels(kernels(channels=3, side=1), ranges(), 10).uniform == ()
    assert inspect_kernels(kernels(4), np.zeros(4, np.float32), 10).dead == (0, 1, 2, 3)


def shares(predicted: list[int], sure: list[float], classes: int) -> np.ndarray:
    rows = np.zeros((len(predicted), classes), np.float32)
    for row, (label, share) in enumerate(zip(predicted, sure, strict=True)):
        rows[row] = (1 - share) / (classes - 1)
        rows[row, label] = share
    return rows


def test_the_surest_mistakes_of_the_commonest_pairs_come_first() -> None:
    true = np.array([0, 0, 1, 1, 2, 2, 3])
    predicted = [1, 0, 0, 0, 3, 2, 3]
    images = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    confusion = np.zeros((4, 4), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    pairs = collect_mistakes(
        images, true, shares(predicted, [0.5, 0.9, 0.7, 0.9, 0.6, 0.9, 0.9], 4), confusion
    )
    found = [[(int(m.image_CHW[0, 0, 0]), m.true, m.predicted) for m in pair] for pair in pairs]
    assert found == [[(3, 1, 0), (2, 1, 0), (0, 0, 1)], [(4, 2, 3)]]
    assert pairs[0][0].probability == np.float32(0.9)
    faultless = np.eye(4, dtype=np.float32)
    assert collect_mistakes(images[:4], np.arange(4), faultless, np.eye(4, dtype=int)) == ()
