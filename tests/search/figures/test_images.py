from __future__ import annotations

import numpy as np
import pytest

from search.analysis.inside import FeatureMaps
from search.figures.images import COLUMNS, MOST_MAPS, MOST_STAGES, draw_feature_maps, tile
from search.training.task import StageMaps


@pytest.mark.parametrize("count", [1, COLUMNS - 1, COLUMNS, COLUMNS + 1, 2 * COLUMNS])
def test_every_map_is_in_its_place(count: int) -> None:
    maps = np.random.default_rng(0).normal(size=(count, 3, 5)).astype(np.float32)
    grid = tile(maps)
    for number in range(count):
        top, left = number // COLUMNS * 4, number % COLUMNS * 6
        assert np.array_equal(grid[top : top + 3, left : left + 5], maps[number])
    assert np.isfinite(grid).sum() == maps.size


def test_the_image_and_each_stage_are_drawn() -> None:
    stages = tuple(
        StageMaps(name=f"conv{n}", maps_CHW=np.zeros((count, 2, 2), np.float32))
        for n, count in enumerate((4, MOST_MAPS + 1, *([3] * MOST_STAGES)), start=1)
    )
    features = FeatureMaps(image_CHW=np.zeros((3, 8, 8), np.uint8), what="an image", stages=stages)
    picture = draw_feature_maps(features, "title")
    titles = [axes.get_title(loc="left") for axes in picture.axes]
    assert len(titles) == 1 + MOST_STAGES
    assert titles[:3] == [
        "an image",
        "conv1: 4 maps of 2×2",
        f"conv2: {MOST_MAPS + 1} maps of 2×2; the first {MOST_MAPS} are shown",
    ]
