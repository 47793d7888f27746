"""Which mistakes are shown."""

from __future__ import annotations

import numpy as np

from search.analysis.inside import collect_mistakes


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
