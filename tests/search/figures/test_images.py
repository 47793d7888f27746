from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from search.analysis.final_result import FeatureMaps, Mistake
from search.figures.images import (
    COLUMNS,
    MOST_MAPS,
    MOST_STAGES,
    MOST_WHAT,
    contact_sheet,
    draw_feature_maps,
    draw_kernels,
    draw_mistakes,
    tile,
)
from search.training.bundle import Bundle, Prediction


def predictions(count: int, channels: int) -> list[Prediction]:
    return [
        Prediction(
            path=Path(f"folder/{'n' * n}.png\x1b"),
            image_CHW=torch.full((channels, 8, 8), 40 * (n % 6), dtype=torch.uint8),
            notes=("dark on light, inverted", "cropped, scaled, centred by its mass"),
            shares_K=torch.tensor([0.7, 0.1, 0.2]).roll(n % 3),
        )
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (40, 3)])
def test_every_picture_is_on_the_sheet(count: int, channels: int, bundle: Bundle) -> None:
    content = contact_sheet(bundle, predictions(count, channels))
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        levels = np.asarray(image.convert("L"))
    for n in range(1, min(count, 6) + 1):  # large areas of each picture's own grey
        assert (np.abs(levels.astype(int) - 40 * (n % 6)) <= 1).sum() > 5000


def test_classes_whose_long_names_begin_alike_are_told_apart(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(f"White-crowned sparrow, {age}" for age in ("adult", "juvenile", "old"))
    sheets = list[Figure]()
    monkeypatch.setattr("search.figures.images.rendered", lambda sheet, *_: sheets.append(sheet))
    contact_sheet(replace(bundle, class_names=names), predictions(2, 1))
    mistake = Mistake(image_CHW=np.zeros((1, 8, 8), np.uint8), true=1, predicted=0, probability=0.9)
    sheets.append(draw_mistakes([[mistake]], names, "title"))
    (_, first, second), (_, pair) = (
        [text.get_text() for text in it.axes[0].texts] for it in sheets
    )
    assert first.startswith("White-crowne…w, juvenile  70.0 %")
    assert second.startswith("White-crowne…parrow, old  70.0 %")
    assert pair == "White-crowne…w, juvenile\n→ White-crowne…rrow, adult\n90 %"


@pytest.mark.parametrize("count", [1, COLUMNS, COLUMNS + 1])
def test_every_map_is_in_its_place(count: int) -> None:
    maps = np.random.default_rng(0).normal(size=(count, 3, 5)).astype(np.float32)
    grid = tile(maps)
    for number in range(count):
        top, left = number // COLUMNS * 4, number % COLUMNS * 6
        assert np.array_equal(grid[top : top + 3, left : left + 5], maps[number])
    assert np.isfinite(grid).sum() == maps.size


@pytest.mark.parametrize(("value", "limit"), [(-0.5, 0.5), (0.0, 1), (np.nan, 1), (np.inf, 1)])
def test_grey_is_zero_for_every_kernel(value: float, limit: float) -> None:
    (axes,) = draw_kernels(np.full((20, 2, 3, 3), value, np.float32), "title").axes
    (image,) = axes.images
    assert image.get_clim() == (-limit, limit)
    assert image.get_array().shape == (2 * 7 - 1, 16 * 4 - 1)


def test_the_image_and_each_stage_are_drawn() -> None:
    counts = enumerate((4, MOST_MAPS + 1, *([3] * MOST_STAGES)), start=1)
    stages = {f"conv{n}": np.zeros((count, 2, 2), np.float32) for n, count in counts}
    features = FeatureMaps(image_CHW=np.zeros((3, 8, 8), np.uint8), what="an image", stages=stages)
    picture = draw_feature_maps(features, "title")
    titles = [axes.get_title(loc="left") for axes in picture.axes]
    assert len(titles) == 1 + MOST_STAGES
    assert titles[:3] == [
        "an image",
        "conv1: 4 maps of 2×2",
        f"conv2: {MOST_MAPS + 1} maps of 2×2; the first {MOST_MAPS} are shown",
    ]
    features = replace(features, what="w" * 500)
    title = draw_feature_maps(features, "title").axes[0].get_title(loc="left")
    assert title == "w" * (MOST_WHAT - 1) + "…"
