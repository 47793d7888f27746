from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import MLPConfig
from search.figures import images as sheet
from search.figures.images import contact_sheet
from search.training.bundle import Bundle, Prediction


def bundle(channels: int) -> Bundle:
    return Bundle(
        study="s",
        trial=0,
        seed=0,
        epochs=1,
        dataset="d",
        title="D",
        class_names=("$x$", "<b>\x1b[31m", "靴"),
        image_shape=(channels, 8, 8),
        mean_C=torch.zeros(channels),
        std_C=torch.ones(channels),
        composition=None,
        architecture=MLPConfig(hidden=()),
        recipe={},
        weights={},
    )


def predictions(count: int, channels: int) -> list[Prediction]:
    return [
        Prediction(
            path=Path(f"folder/{'n' * n}.png\x1b"),
            image_CHW=torch.full((channels, 8, 8), 40 * (n % 6), dtype=torch.uint8),
            notes=("dark on light, inverted", "cropped, scaled, centred by its centre of mass"),
            ranking=((n % 3, 0.7), ((n + 1) % 3, 0.2), ((n + 2) % 3, 0.1)),
        )
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3, 7, 40])
def test_every_picture_is_on_it(count: int, channels: int) -> None:
    content = contact_sheet(bundle(channels), predictions(count, channels))
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        levels = np.asarray(image.convert("L"))
    for n in range(1, min(count, 6) + 1):  # large areas of each picture's own grey
        assert (np.abs(levels.astype(int) - 40 * (n % 6)) <= 1).sum() > 5000


def test_the_same_predictions_give_the_same_file() -> None:
    sheets = [contact_sheet(bundle(1), predictions(3, 1)) for _ in range(2)]
    assert sheets[0] == sheets[1]


def test_a_sheet_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MOST", 5)
    sizes = set()
    for count in (5, 50):
        with Image.open(io.BytesIO(contact_sheet(bundle(1), predictions(count, 1)))) as image:
            sizes.add(image.size)
    assert len(sizes) == 1
